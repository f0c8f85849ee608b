//! Threads and loops that a process cannot do without. A panic in one is logged, and its work goes on after a pause: no
//! panic ends such a thread for good or silently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::messages::Message;

/// How long the work pauses after a panic, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Runs `work` until it returns. After a panic, runs it again from the beginning, after a pause that grows while panics
/// follow each other. `name` is the name of the thread, for the numbered line that `log` gets.
pub fn run<R>(name: &str, log: impl Fn(Message, &str), mut work: impl FnMut() -> R) -> R {
    let mut rest = FIRST_REST;
    loop {
        let begun = Instant::now();
        if let Ok(done) = catch_unwind(AssertUnwindSafe(&mut work)) {
            return done;
        }
        if begun.elapsed() > LONGEST_REST {
            rest = FIRST_REST;
        }
        let message = Message::ThreadPanicked;
        let line = message.line(&[&name, &rest.as_secs_f64()]);
        // If the log itself panics, there is no way left to report it.
        let _ = catch_unwind(AssertUnwindSafe(|| log(message, &line)));
        std::thread::sleep(rest);
        rest = (rest * 2).min(LONGEST_REST);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn work_goes_on_after_panics() {
        let lines = RefCell::new(Vec::new());
        let mut turns = 0;
        let log =
            |message: Message, line: &str| lines.borrow_mut().push((message, line.to_owned()));
        let done = run("wsgi-test", log, || {
            turns += 1;
            assert!(turns > 2, "injected");
            turns
        });
        assert_eq!(done, 3);
        let expected = ["0.1", "0.2"].map(|seconds| {
            let line = format!(
                "WSGI1096: the thread 'wsgi-test' of this process has met an internal error and goes on in {seconds} s"
            );
            (Message::ThreadPanicked, line)
        });
        assert_eq!(lines.into_inner(), expected);
    }

    #[test]
    fn a_log_that_panics_ends_nothing() {
        let mut turns = 0;
        let done = run(
            "wsgi-test",
            |_, _| panic!("injected"),
            || {
                turns += 1;
                assert!(turns > 1, "injected");
                turns
            },
        );
        assert_eq!(done, 2);
    }
}
