//! The three MPMs, and the macro that makes a test run under each.

use std::fmt;
use std::io::{self, Write};

/// A multi-processing module of httpd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mpm {
    /// Each child serves one request at a time.
    Prefork,
    /// Children with threads.
    Worker,
    /// Like worker, but idle connections wait in a listener thread.
    Event,
}

impl Mpm {
    /// Whether children have more than one thread.
    pub fn threaded(self) -> bool {
        self != Mpm::Prefork
    }
}

impl fmt::Display for Mpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mpm::Prefork => "prefork",
            Mpm::Worker => "worker",
            Mpm::Event => "event",
        })
    }
}

/// Makes three tests of each function: `name::prefork`, `name::worker` and `name::event`.
#[macro_export]
macro_rules! mpm_tests {
    ($($(#[$meta:meta])* fn $name:ident($mpm:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn run($mpm: $crate::Mpm) $body

            #[test]
            fn prefork() {
                let _limit = $crate::Limit::of_test(concat!(module_path!(), "::prefork"));
                run($crate::Mpm::Prefork);
            }

            #[test]
            fn worker() {
                let _limit = $crate::Limit::of_test(concat!(module_path!(), "::worker"));
                run($crate::Mpm::Worker);
            }

            #[test]
            fn event() {
                let _limit = $crate::Limit::of_test(concat!(module_path!(), "::event"));
                run($crate::Mpm::Event);
            }
        }
    )*};
}

/// Leaves the test, and prints that, if the module under test is not ours: for deliberate differences.
#[macro_export]
macro_rules! ours_only {
    ($why:literal) => {
        if !$crate::ours() && !$crate::everything() {
            $crate::leave_out("ours only", module_path!(), $why);
            return;
        }
    };
}

/// Leaves the test, and prints that, if applications run in a process group: for tests of what only httpd's children
/// have or do.
#[macro_export]
macro_rules! embedded_only {
    ($why:literal) => {
        if $crate::process_group().is_some() {
            $crate::leave_out("embedded only", module_path!(), $why);
            return;
        }
    };
}

/// Prints that a test is left out, and why.
#[doc(hidden)]
pub fn leave_out(what: &str, test: &str, why: &str) {
    // Not `eprintln!`, whose output the test runner hides: a skipped test must be visible.
    let _ = writeln!(io::stderr(), "skipped, {what}: {test}: {why}");
}
