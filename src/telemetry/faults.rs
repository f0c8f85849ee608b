//! Breaks rules of the segment on purpose, so that tests can show that they notice.
//!
//! Compiled only with the feature `faults`, which no server is built with. The environment variable `WSGI_FAULT` names
//! the rule to break; it is read once.

use std::sync::OnceLock;
use std::thread;

/// A rule of the segment that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `zeroed`: the next owner of an arena begins at zero.
    Zeroed,
    /// `crowded`: all threads of all children write to the same arena as if it were their own.
    Crowded,
    /// `freed-by-child`: a child frees its arenas itself when it begins to drain.
    FreedByChild,
    /// `freed-early`: the parent frees the arenas of a child before the child has ended.
    FreedEarly,
    /// `attached`: a process that an application forks goes on recording. Only in a server.
    Attached,
}

impl Fault {
    /// All faults, with their names.
    pub const ALL: [(&str, Fault); 5] = [
        ("zeroed", Fault::Zeroed),
        ("crowded", Fault::Crowded),
        ("freed-by-child", Fault::FreedByChild),
        ("freed-early", Fault::FreedEarly),
        ("attached", Fault::Attached),
    ];
}

/// The environment variable that names the fault.
pub const VARIABLE: &str = "WSGI_FAULT";

/// Returns whether `fault` is the rule to break.
///
/// # Panics
/// If the variable names no fault: a test that breaks nothing would prove nothing.
pub fn is(fault: Fault) -> bool {
    static CHOSEN: OnceLock<Option<Fault>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let found = Fault::ALL.iter().find(|(known, _)| *known == name);
        assert!(found.is_some(), "{VARIABLE}={name} is no fault");
        found.map(|(_, fault)| *fault)
    });
    *chosen == Some(fault)
}

/// Yields between the load and the store of an addition. Two writers would otherwise hardly ever meet in that short
/// time.
pub(crate) fn in_addition() {
    if [Fault::Crowded, Fault::FreedByChild, Fault::FreedEarly]
        .into_iter()
        .any(is)
    {
        thread::yield_now();
    }
}
