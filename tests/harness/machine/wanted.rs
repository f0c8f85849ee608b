//! What the environment variables ask of the whole suite, and which module is under test.

use std::env;
use std::fs;
use std::sync::OnceLock;

use crate::machine::stage;

/// Whether the module under test is mod_wsgi_rs, and not mod_wsgi.
pub fn ours() -> bool {
    static OURS: OnceLock<bool> = OnceLock::new();
    *OURS.get_or_init(|| {
        let bytes = fs::read(stage::module()).unwrap();
        bytes.windows(11).any(|window| window == b"mod_wsgi_rs")
    })
}

/// Whether the environment asks for the long form of the tests.
pub fn long() -> bool {
    env::var_os("WSGI_TEST_LONG").is_some_and(|value| value == "1")
}

/// Whether the environment asks for the tests of deliberate differences on mod_wsgi, too.
pub fn everything() -> bool {
    env::var_os("WSGI_TEST_EVERYTHING").is_some_and(|value| value == "1")
}

/// Returns the executor of servers whose test names none, if the environment names one.
pub fn executor() -> Option<&'static str> {
    static EXECUTOR: OnceLock<Option<&'static str>> = OnceLock::new();
    *EXECUTOR.get_or_init(|| {
        let name = env::var("WSGI_TEST_EXECUTOR")
            .ok()
            .filter(|name| !name.is_empty())?;
        let known = EXECUTORS.iter().find(|known| **known == name);
        let known =
            known.unwrap_or_else(|| panic!("WSGI_TEST_EXECUTOR={name} is none of {EXECUTORS:?}"));
        Some(*known).filter(|_| ours())
    })
}

/// Returns the process group that runs the applications of servers whose test names none, if the environment asks for
/// one.
pub fn process_group() -> Option<&'static str> {
    let is_wanted = env::var_os("WSGI_TEST_PROCESS_GROUP").is_some_and(|value| value == "1");
    (is_wanted && ours()).then_some("all-tests")
}

/// The words of `WSGIExecutor` that name a strategy.
const EXECUTORS: [&str; 3] = ["direct", "delegate", "pool"];
