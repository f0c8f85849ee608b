//! A flag for the threads of a scope that run until the test is done. A scope waits for its threads also when an
//! assertion in it fails; if the flag were not set then, the test would never end.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A flag that says that the test is done.
#[derive(Default)]
pub struct Over(AtomicBool);

impl Over {
    /// Whether the test is done.
    pub fn is_over(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Sets the flag.
    pub fn end(&self) {
        self.0.store(true, Relaxed);
    }

    /// Sets the flag when the result is dropped, also by a failed assertion. Call it inside the scope.
    #[must_use = "it ends when this is dropped"]
    pub fn at_end(&self) -> AtEnd<'_> {
        AtEnd(self)
    }
}

/// Sets the flag when it is dropped; see [`Over::at_end`].
pub struct AtEnd<'a>(&'a Over);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failed_assertion_ends_a_scope_with_threads() {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let failed = thread::spawn(|| {
                let over = Over::default();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !over.is_over() {
                            thread::sleep(Duration::from_millis(1));
                        }
                    });
                    let _end = over.at_end();
                    panic!("an assertion fails, as it should");
                });
            });
            let _ = tell.send(failed.join().is_err());
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
