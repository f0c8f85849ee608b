//! The longest time of a test. A test that hangs ends the run, which prints the name of the test and the error log of
//! its server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::process::{self, Pid};
use crate::machine::wanted::long;
use crate::server::log;

/// A running test, or a server of a test.
struct Running {
    name: String,
    began: Instant,
    server: Option<(Pid, PathBuf)>,
}

#[derive(Default)]
struct All {
    next: u64,
    running: BTreeMap<u64, Running>,
}

fn all() -> MutexGuard<'static, All> {
    static ALL: Mutex<All> = Mutex::new(All {
        next: 0,
        running: BTreeMap::new(),
    });
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the run unless it is dropped in time.
pub struct Limit(u64);

impl Limit {
    /// Limits the test of this name, which runs on the calling thread.
    pub fn of_test(name: &str) -> Self {
        Self::new(name.to_owned(), None)
    }

    /// Registers a server that the test on the calling thread has started.
    pub(crate) fn of_server(pid: Pid, root: &Path) -> Self {
        let thread = thread::current();
        let name = thread.name().unwrap_or("a test").to_owned();
        Self::new(name, Some((pid, root.to_owned())))
    }

    fn new(name: String, server: Option<(Pid, PathBuf)>) -> Self {
        static WATCH: OnceLock<()> = OnceLock::new();
        WATCH.get_or_init(|| {
            thread::spawn(|| {
                loop {
                    thread::sleep(Duration::from_secs(1));
                    look(limit());
                }
            });
        });
        let mut all = all();
        let number = all.next;
        all.next += 1;
        let began = Instant::now();
        let running = Running {
            name,
            began,
            server,
        };
        all.running.insert(number, running);
        Self(number)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        all().running.remove(&self.0);
    }
}

/// Returns the value of `WSGI_TEST_LIMIT`, or its default.
fn limit() -> Duration {
    static LIMIT: OnceLock<Duration> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let written = std::env::var("WSGI_TEST_LIMIT").ok();
        let seconds = written.and_then(|text| text.parse().ok());
        let usual = if long() { 3 * 3600 } else { 20 * 60 };
        Duration::from_secs(seconds.unwrap_or(usual))
    })
}

/// Ends the run if a test has taken too long.
fn look(limit: Duration) {
    let all = all();
    let late = all
        .running
        .values()
        .find(|running| running.began.elapsed() > limit);
    let Some(late) = late else { return };
    eprintln!(
        "\n{}: not done after {limit:?} (WSGI_TEST_LIMIT): the run ends here",
        late.name
    );
    let same = |running: &&Running| running.name == late.name;
    for (_, root) in all
        .running
        .values()
        .filter(same)
        .filter_map(|it| it.server.as_ref())
    {
        eprintln!(
            "--- error log, last lines\n{}",
            log::tail(&root.join("error.log"), 100)
        );
    }
    for (pid, _) in all.running.values().filter_map(|it| it.server.as_ref()) {
        let children = process::children_of(*pid);
        process::kill(*pid);
        children.into_iter().for_each(process::kill);
    }
    std::process::exit(101);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs only this test again, with a short limit, in another process.
    #[test]
    fn a_test_that_hangs_ends_the_run_and_is_named() {
        const NAME: &str = "server::limit::tests::a_test_that_hangs_ends_the_run_and_is_named";
        if std::env::var_os("WSGI_TEST_LIMIT").is_some_and(|seconds| seconds == "2") {
            let _limit = Limit::of_test("the test that hangs");
            thread::sleep(Duration::from_secs(600));
            return;
        }
        let begun = Instant::now();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env("WSGI_TEST_LIMIT", "2")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(101), "{text}");
        assert!(
            text.contains("the test that hangs: not done after 2s"),
            "{text}"
        );
        assert!(begun.elapsed() < Duration::from_secs(300));
    }
}
