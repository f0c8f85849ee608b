//! The interpreters of this process: the main one, those of application groups under its GIL, and replicas with their
//! own GILs. An interpreter is never ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use arc_swap::ArcSwap;
use pyo3::ffi;

use crate::cpython::module_state::State;
use crate::cpython::object::Attached;
use crate::sync::lock;

/// How many interpreters a process may hold. Group names can come from the `Host` header, and an interpreter is never
/// ended, so without a bound clients could fill the memory.
pub(crate) const MAX_INTERPRETERS: usize = 256;

/// One interpreter.
pub(crate) struct Interpreter {
    identity: Identity,
    number: u32,
    raw: *mut ffi::PyInterpreterState,
    /// The engine's state for the interpreter, from when the module `mod_wsgi` was first imported there.
    state: OnceLock<State<'static>>,
    /// How many requests are in the interpreter.
    inside: AtomicU32,
}

/// The place of an interpreter in its application group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name of the group that the interpreter was made for; empty for the main interpreter.
    pub(crate) group: Vec<u8>,
    /// Which of the group's replicas the interpreter is, if the replicas have their own GILs.
    pub(crate) replica: Option<Replica>,
}

/// One of several interpreters that hold the same applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The index, from 0.
    pub(crate) index: u32,
    /// The number of replicas.
    pub(crate) of: u32,
}

impl Identity {
    /// The identity of the main interpreter.
    pub(crate) const MAIN: Identity = Identity {
        group: Vec::new(),
        replica: None,
    };

    /// Describes the interpreter for messages: "main interpreter", "sub-interpreter 'x'", or "interpreter 1 of 2 of
    /// application group 'x'".
    pub(crate) fn describe(&self) -> String {
        let group = String::from_utf8_lossy(&self.group);
        match self.replica {
            Some(Replica { index, of }) => {
                format!(
                    "interpreter {} of {of} of application group '{group}'",
                    index + 1
                )
            }
            None if group.is_empty() => String::from("main interpreter"),
            None => format!("sub-interpreter '{group}'"),
        }
    }
}

// SAFETY: the interpreter is never ended; its state is only reached through an attachment to it. [S-25]
unsafe impl Send for Interpreter {}
// SAFETY: as above.
unsafe impl Sync for Interpreter {}

/// The interpreters that are set up, in the order in which they were made.
static ALL: OnceLock<ArcSwap<Vec<&'static Interpreter>>> = OnceLock::new();
/// All interpreters that the engine has made, also those not set up yet.
static KNOWN: Mutex<Vec<&'static Interpreter>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU32 = AtomicU32::new(0);

fn every() -> &'static ArcSwap<Vec<&'static Interpreter>> {
    ALL.get_or_init(ArcSwap::default)
}

impl Interpreter {
    fn leak(identity: Identity, raw: *mut ffi::PyInterpreterState) -> &'static Self {
        Box::leak(Box::new(Self {
            identity,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            raw,
            state: OnceLock::new(),
            inside: AtomicU32::new(0),
        }))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Describes the interpreter for messages, see [`Identity::describe`].
    pub(crate) fn describe(&self) -> String {
        self.identity.describe()
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyInterpreterState {
        self.raw
    }

    /// Returns the engine's state for the interpreter; `None` before it is set up, and if `py` is attached to another
    /// interpreter.
    #[inline]
    pub(crate) fn state<'i>(&self, py: &Attached<'i>) -> Option<&'i State<'i>> {
        if !std::ptr::eq(py.interpreter(), self) {
            return None;
        }
        let state: *const State<'static> = py.interpreter().state.get()?;
        // SAFETY: the state lives as long as the interpreter, which is never ended. The lifetime of its objects says
        // that they are of the interpreter that `py` is attached to, which was checked. [S-25]
        Some(unsafe { &*state.cast::<State<'i>>() })
    }

    /// Keeps the state that the first import of the module has made. A later import makes a module for itself, whose
    /// state is dropped.
    pub(crate) fn keep_state<'i>(&self, _py: &Attached<'i>, state: State<'i>) {
        // SAFETY: lifetimes do not change the layout. The objects are of this interpreter, and `state` gives them back
        // only with the lifetime of an attachment to it.
        let state = unsafe { std::mem::transmute::<State<'i>, State<'static>>(state) };
        let _later = self.state.set(state);
    }

    /// Returns how many requests are in the interpreter.
    pub(crate) fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }

    /// Counts a request as inside, until the result is dropped.
    pub(crate) fn enter(&self) -> Visitor<'_> {
        self.inside.fetch_add(1, Ordering::Relaxed);
        Visitor(self)
    }

    /// Adds the interpreter, which is set up, to [`all`].
    pub(crate) fn register(&'static self) {
        every().rcu(|known| {
            let mut more = Vec::clone(known);
            more.push(self);
            more
        });
    }
}

/// A request that is in an interpreter.
pub(crate) struct Visitor<'a>(&'a Interpreter);

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Release);
    }
}

/// Returns the main interpreter, once Python has been started.
pub(crate) fn main() -> Option<&'static Interpreter> {
    every().load().first().copied()
}

/// Returns all interpreters that are set up, the main one last.
pub(crate) fn all() -> Vec<&'static Interpreter> {
    every().load().iter().rev().copied().collect()
}

/// Makes the record of a new interpreter, to which the calling thread is attached.
///
/// # Safety
/// The thread must be attached, and the interpreter must never be ended.
pub(crate) unsafe fn begin(identity: Identity) -> &'static Interpreter {
    // SAFETY: attached, so there is a current state.
    let raw = unsafe { ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get()) };
    let interpreter = Interpreter::leak(identity, raw);
    lock(&KNOWN).push(interpreter);
    interpreter
}

/// Returns the interpreter that the calling thread is attached to. An interpreter that the application has made, and
/// may end, gets a new record each time.
///
/// # Safety
/// The thread must be attached.
pub(crate) unsafe fn here() -> &'static Interpreter {
    // SAFETY: attached, so there is a current state.
    let raw = unsafe { ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get()) };
    let known = lock(&KNOWN).iter().find(|known| known.raw == raw).copied();
    known.unwrap_or_else(|| {
        let identity = Identity {
            group: b"of the application".to_vec(),
            replica: None,
        };
        Interpreter::leak(identity, raw)
    })
}
