//! The engine's side of the contract, as the module uses it.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::time::Duration;

use crate::{Bytes, EngineTable, HostTable, Hosts, RunOutcome, RunRequest, StartConfig};

/// A started engine, which calls back into the requests of `H`.
pub struct Engine<H> {
    table: &'static EngineTable,
    host: PhantomData<fn(H)>,
}

impl<H> Clone for Engine<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Engine<H> {}

impl<H: Hosts> Engine<H> {
    /// Starts Python. The error says why Python does not run.
    ///
    /// # Safety
    /// `host` must be the table of `H::Host`, and its methods must not let anything with the lifetime of a request
    /// outlive it: the table knows no lifetimes.
    pub unsafe fn start(
        table: &'static EngineTable,
        host: &'static HostTable,
        config: &StartConfig<'_>,
    ) -> Result<Self, &'static [u8]> {
        let mut problem = Bytes::ABSENT;
        if (table.start)(host, config, &mut problem) {
            Ok(Self {
                table,
                host: PhantomData,
            })
        } else {
            Err(problem.get_or_empty())
        }
    }

    /// Loads a script ahead of its first request. Returns whether it loaded in at least one interpreter.
    pub fn load(self, group: &[u8], script: &[u8], app: u16) -> bool {
        (self.table.load)(Bytes::new(group), Bytes::new(script), app)
    }

    /// Returns the number of interpreters of a group; 0 if they could not be made.
    pub fn replicas(self, group: &[u8]) -> u32 {
        (self.table.replicas)(Bytes::new(group))
    }

    /// Returns the path of a source file that has changed since it was first seen. Must be called from one thread at a
    /// time.
    pub fn changed_source(self) -> Option<Vec<u8>> {
        unsafe extern "C" fn take(data: *mut c_void, path: Bytes<'_>) {
            // SAFETY: `data` points to `found` below, which lives during that call.
            unsafe { *data.cast::<Option<Vec<u8>>>() = path.get().map(<[u8]>::to_vec) };
        }
        let mut found: Option<Vec<u8>> = None;
        // SAFETY: `take` casts the pointer back to its type; nothing else uses `found` during the call.
        unsafe { (self.table.changed_source)((&raw mut found).cast(), take) };
        found
    }

    /// Returns the stacks of all Python threads of this process, as a text for people. Waits for each GIL for at most
    /// `patience`, and a few seconds more if it does not get one.
    pub fn dump_stacks(self, patience: Duration) -> Vec<u8> {
        unsafe extern "C" fn take(data: *mut c_void, text: Bytes<'_>) {
            // SAFETY: `data` points to `found` below, which lives during that call.
            unsafe { *data.cast::<Vec<u8>>() = text.get_or_empty().to_vec() };
        }
        let mut found: Vec<u8> = Vec::new();
        let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: `take` casts the pointer back to its type; nothing else uses `found` during the call.
        unsafe { (self.table.dump_stacks)(patience, (&raw mut found).cast(), take) };
        found
    }

    /// Returns the number of threads that have nothing left to do for their requests and have not returned
    /// ([`EngineTable::stuck`]).
    pub fn stuck(self) -> u32 {
        (self.table.stuck)()
    }

    /// Returns the number of requests that wait until they may enter Python ([`EngineTable::waiting`]).
    pub fn waiting(self) -> u32 {
        (self.table.waiting)()
    }

    /// Runs a request on the calling thread.
    pub fn run(self, request: RunRequest<'_>, host: &H::Host<'_>) -> RunOutcome {
        // SAFETY: `host` is a request of the type whose table the engine was started with, and outlives the call.
        unsafe { (self.table.run)(&request.for_host(host)) }
    }

    /// Tells the applications of a signal that this process has got. Waits for each GIL.
    pub fn signal(self, number: i32) {
        (self.table.signal)(number);
    }

    /// From now on, only its own thread touches a request ([`EngineTable::hold`]).
    pub fn hold(self) {
        (self.table.hold)();
    }

    /// Ends Python's work in this process. Subscribers of `process_stopping` are told the `reason`.
    pub fn stop(self, reason: &str) {
        (self.table.stop)(Bytes::new(reason.as_bytes()));
    }
}
