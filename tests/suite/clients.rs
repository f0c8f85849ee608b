//! Clients that send requests without a pause, each on a new connection, while a test does something to the server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use harness::{Over, Request, Response, Server, eventually};

/// The targets of the clients, and the results.
pub(crate) struct Clients<'s> {
    server: &'s Server,
    targets: &'s [&'s str],
    /// The number of correct responses, by target.
    done: Vec<AtomicU64>,
    failures: Mutex<Vec<String>>,
    over: Over,
}

impl<'s> Clients<'s> {
    /// Runs `each` clients for each target while `work` runs; they end also if `work` fails. Each response must be 200
    /// and complete, and each client must get at least one response.
    pub(crate) fn during(
        server: &'s Server,
        targets: &'s [&'s str],
        each: usize,
        work: impl FnOnce(&Self),
    ) -> Self {
        let clients = Self {
            server,
            targets,
            done: targets.iter().map(|_| AtomicU64::new(0)).collect(),
            failures: Mutex::default(),
            over: Over::default(),
        };
        thread::scope(|scope| {
            for target in (0..targets.len()).flat_map(|target| vec![target; each]) {
                let clients = &clients;
                scope.spawn(move || clients.run(target));
            }
            let _end = clients.over.at_end();
            work(&clients);
        });
        clients
    }

    fn run(&self, target: usize) {
        let request = Request::get(self.targets[target]);
        while !self.over.is_over() {
            match self.server.try_send(&request) {
                Ok(response) if is_whole(&response) => {
                    self.done[target].fetch_add(1, Relaxed);
                }
                Ok(response) => self.fail(
                    target,
                    &format!("{} {:?}", response.status(), response.ending),
                ),
                Err(error) => self.fail(target, &error.to_string()),
            }
        }
    }

    fn fail(&self, target: usize, what: &str) {
        let failure = format!("{}: {what}", self.targets[target]);
        self.failures.lock().unwrap().push(failure);
    }

    /// Returns the number of correct responses for a target so far.
    pub(crate) fn done(&self, target: usize) -> u64 {
        self.done[target].load(Relaxed)
    }

    /// Waits until each target has been answered `more` times again.
    pub(crate) fn wait_for(&self, more: u64) {
        let counts = || self.done.iter().map(|count| count.load(Relaxed));
        let before: Vec<u64> = counts().collect();
        eventually("all clients are answered", || {
            let mut both = counts().zip(&before);
            both.all(|(now, before)| now >= before + more).then_some(())
        });
    }

    /// Returns the requests without a correct response.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// Ends the test unless all responses were correct.
    #[track_caller]
    pub(crate) fn expect_no_failures(&self) {
        let failures = self.failures();
        let done: u64 = self.done.iter().map(|count| count.load(Relaxed)).sum();
        assert!(
            failures.is_empty(),
            "{} failed beside {done}: {:#?}",
            failures.len(),
            &failures[..failures.len().min(10)]
        );
    }
}

fn is_whole(response: &Response) -> bool {
    response.status() == 200 && response.is_complete()
}
