//! The interpreters of this process: the main one, those of application groups under its GIL, and replicas with GILs of
//! their own. An interpreter is never ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use arc_swap::ArcSwap;
use pyo3::ffi;

use crate::cpython::module_state::State;
use crate::cpython::object::Attached;
use crate::sync::lock;

/// How many interpreters a process may hold. Names can come from the `Host` header, and an interpreter is never
/// ended, so without a bound clients could fill the memory.
pub(crate) const MAX_INTERPRETERS: usize = 256;

/// One interpreter.
pub(crate) struct Interpreter {
    identity: Identity,
    number: u32,
    raw: *mut ffi::PyInterpreterState,
    /// What the engine keeps for it, from when the module `mod_wsgi` was first imported there.
    state: OnceLock<State<'static>>,
    /// How many requests are in it.
    inside: AtomicU32,
}

/// What an interpreter is to its application group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of the group that it was made for; empty for the main interpreter.
    pub(crate) group: Vec<u8>,
    /// Which of the group's replicas it is, if these have GILs of their own.
    pub(crate) replica: Option<Replica>,
}

/// One of several interpreters that hold the same applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// From 0.
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) of: u32,
}

impl Identity {
    /// The main interpreter.
    pub(crate) const MAIN: Identity = Identity {
        group: Vec::new(),
        replica: None,
    };

    /// For messages: "main interpreter", "sub-interpreter 'x'", or "interpreter 1 of 2 of application group 'x'".
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

/// Those that are set up, in the order in which they were made.
static ALL: OnceLock<ArcSwap<Vec<&'static Interpreter>>> = OnceLock::new();
/// Those of the engine, from before they are set up.
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

    /// For messages, as [`Identity::describe`].
    pub(crate) fn describe(&self) -> String {
        self.identity.describe()
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyInterpreterState {
        self.raw
    }

    /// What the engine keeps for it; `None` before it is set up, and where `py` is attached to another interpreter.
    #[inline]
    pub(crate) fn state<'i>(&self, py: &Attached<'i>) -> Option<&'i State<'i>> {
        if !std::ptr::eq(py.interpreter(), self) {
            return None;
        }
        let state: *const State<'static> = py.interpreter().state.get()?;
        // SAFETY: lives as long as the interpreter, which is never ended. The brand says of its objects that they are of
        // the interpreter that `py` is attached to, which was checked. [S-25]
        Some(unsafe { &*state.cast::<State<'i>>() })
    }

    /// Keeps what the first import of the module has made. A later one makes a module for itself, which is not kept.
    pub(crate) fn keep_state<'i>(&self, _py: &Attached<'i>, state: State<'i>) {
        // SAFETY: lifetimes do not change the layout. The objects are of this interpreter, and `state` gives them back
        // under the brand of an attachment to it only.
        let state = unsafe { std::mem::transmute::<State<'i>, State<'static>>(state) };
        let _later = self.state.set(state);
    }

    /// How many requests are in it.
    pub(crate) fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }

    /// A request goes into it, until the result is dropped.
    pub(crate) fn enter(&self) -> Visitor<'_> {
        self.inside.fetch_add(1, Ordering::Relaxed);
        Visitor(self)
    }

    /// It is set up: makes it known to all.
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

/// The main interpreter, once Python has been started.
pub(crate) fn main() -> Option<&'static Interpreter> {
    every().load().first().copied()
}

/// Every interpreter there is, the main one last.
pub(crate) fn all() -> Vec<&'static Interpreter> {
    every().load().iter().rev().copied().collect()
}

/// The record of a new interpreter, to which the calling thread is attached.
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

/// The interpreter that the calling thread is attached to. One that the application has made, which it may end, gets a
/// record of its own each time.
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
