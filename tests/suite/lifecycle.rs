//! Children are killed, restarted and stopped, and clients notice nothing more than they must.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Mpm, Pid, Request, Server, descriptors, eventually, kill, long, maps, mpm_tests, ours,
    ours_only, own_kib,
};

mpm_tests! {
    fn a_killed_child(mpm) {
        let server = start(mpm, 2, 4);
        server.get("/hello").expect(200);
        let victim = eventually("there are two children", || {
            let children = server.children();
            (children.len() >= 2).then(|| children[0])
        });
        let load = Load::during(&server, 4, |load| {
            load.wait_for(50);
            kill(victim);
            eventually("a child takes the place of the killed one", || {
                let children = server.children();
                (children.len() >= 2 && !children.contains(&victim)).then_some(())
            });
            load.wait_for(load.done() + 50);
        });
        // Only requests that the victim was serving may be lost.
        let failures = load.failures();
        assert!(failures.len() <= 4, "{failures:#?}");
    }

    fn graceful_restarts_under_load(mpm) {
        let server = start(mpm, 6, 16);
        let restarts = if long() { 30 } else { 8 };
        let load = Load::during(&server, 32, |load| {
            let begun = Instant::now();
            for restart in 1..=restarts {
                // The server restarts once a second, while the load goes on.
                thread::sleep((begun + Duration::from_secs(restart)).saturating_duration_since(Instant::now()));
                harness::graceful(server.pid());
            }
            load.wait_for(load.done() + 100);
        });
        let failures = load.failures();
        let done = load.done();
        assert!(failures.is_empty(), "{} of {done} failed:\n{:#?}", failures.len(), &failures[..failures.len().min(20)]);
        assert!(done > 100, "only {done} requests in {restarts} s");
        assert!(server.count_log("resuming normal operations") > 2);
    }

    fn the_parent_stays_as_it_is(mpm) {
        let server = start(mpm, 1, 4);
        // Children that are ending still have their places in the scoreboard.
        server.allow_log("AH00288");
        let restarts = if long() { 5_000 } else { 12 };
        let load = Load::during(&server, 1, |_| {
            let mut restarted = 1;
            let mut restart = |times: usize| {
                for _ in 0..times {
                    harness::graceful(server.pid());
                    restarted += 1;
                    eventually("httpd has restarted", || {
                        (server.count_log("resuming normal operations") >= restarted).then_some(())
                    });
                }
            };
            // Caches and tables are made in the first restarts, and grow to their size in some more.
            restart(restarts / 4);
            let before = Parent::of(&server);
            restart(restarts);
            before.assert_kept(&server, restarts);
        });
        let failures = load.failures();
        assert!(failures.is_empty(), "{} of {} failed: {:#?}", failures.len(), load.done(), failures.first());
    }

    fn restarts(mpm) {
        let server = start(mpm, 2, 4);
        for number in 0..3 {
            let before: Vec<Pid> = server.children();
            if number % 2 == 0 { server.restart_now() } else { server.graceful_restart() }
            assert!(server.children().iter().all(|pid| !before.contains(pid)));
            assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
        }
    }

    fn a_restart_waits_for_the_request_inside(mpm) {
        let server = start(mpm, 2, 4);
        let mut connection = server.ask("/stream");
        assert_eq!(connection.read_head().unwrap().status, 200);
        assert_eq!(connection.read_chunk().unwrap().unwrap(), b"first");
        harness::graceful(server.pid());
        eventually("new children serve", || (server.count_log("resuming normal operations") > 1).then_some(()));
        server.get("/hello").expect(200);
        server.write("gate", "open");
        assert_eq!(connection.read_chunk().unwrap().unwrap(), b"second");
        assert_eq!(connection.read_chunk().unwrap().unwrap(), b"");
    }

    fn queued_work_is_finished(mpm) {
        let server = Server::builder(mpm)
            .writable_folder("out")
            .conf("SetEnv test.folder ${ROOT}/out
                WSGIScriptAlias /main ${APPS}/executor.wsgi application-group=%{GLOBAL}
                WSGIScriptAlias /group ${APPS}/executor.wsgi application-group=group")
            .start();
        let numbers: String = (0..50).map(|number| format!("{number}\n")).collect();
        // mod_wsgi does not empty the queue of a sub-interpreter.
        let groups = if ours() { ["main", "group"] } else { ["main"; 2] };
        for group in groups {
            for round in 1..=2 {
                let _ = std::fs::remove_file(server.root().join(format!("out/{group}{round}")));
                server.get(&format!("/{group}/{group}{round}")).expect(200);
                server.graceful_restart();
                let file = server.root().join(format!("out/{group}{round}"));
                let written = || std::fs::read_to_string(&file).unwrap_or_default();
                assert_eq!(written(), numbers, "{group}, round {round}");
            }
        }
    }

    fn stopping(mpm) {
        let server = start(mpm, 2, 4);
        server.get("/hello").expect(200);
        let mut idle = server.connect();
        idle.exchange(&Request::get("/hello").keep_alive()).unwrap().expect(200);
        let took = server.stop();
        assert!(took < Duration::from_secs(6), "the stop took {took:?}");
    }

    fn single_process(mpm) {
        let server = Server::builder(mpm).single_process().app("/hello", "hello.wsgi").app("/in", "input.wsgi").start();
        for _ in 0..3 {
            assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
        }
        assert_eq!(server.send(&Request::post("/in/read", "hello")).expect(200).json(), "hello");
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        assert!(server.children().is_empty());
    }

    fn process_groups_of_a_single_process(mpm) {
        ours_only!("the message is ours");
        let server = Server::builder(mpm)
            .single_process()
            .app("/process", "process.wsgi")
            .conf("WSGIDaemonProcess site processes=2 threads=5\nWSGIProcessGroup site")
            .start();
        assert_eq!(server.get("/process").expect(200).json()["pid"], server.pid());
        server.expect_log("WSGI1008: WSGIDaemonProcess has no effect under httpd -X");
        assert_eq!(server.count_log("WSGI1008"), 1);
        assert!(server.children().is_empty());
    }

    fn short_lived_children(mpm) {
        let server = Server::builder(mpm)
            .pool(2, 4)
            .app("/hello", "hello.wsgi")
            .conf("MaxConnectionsPerChild 5")
            .start();
        let request = Request::get("/hello");
        let mut served = 0;
        for _ in 0..60 {
            match server.try_send(&request) {
                Ok(response) => served += usize::from(response.expect(200).text() == "Hello world!"),
                // httpd's event MPM sometimes drops a connection when a child reaches its limit, also of static files.
                Err(error) => assert_eq!(mpm, Mpm::Event, "{error}"),
            }
        }
        assert!(served > 50, "{served} of 60");
        // Children that are ending keep their scoreboard slots for a while.
        server.allow_log("scoreboard is full");
    }
}

fn start(mpm: Mpm, processes: usize, threads: usize) -> Server {
    Server::builder(mpm)
        .pool(processes, threads)
        .app("/hello", "hello.wsgi")
        .app("/in", "input.wsgi")
        .app("/out", "response.wsgi")
        .app("/stream", "streaming.wsgi")
        .conf("WSGIChunkedRequest On\nSetEnv test.gate ${ROOT}/gate")
        .start()
}

/// The resources of the parent, which must be the same after many restarts.
struct Parent {
    kib: u64,
    descriptors: usize,
    mappings: usize,
}

impl Parent {
    fn of(server: &Server) -> Self {
        Self {
            kib: own_kib(server.pid()),
            descriptors: descriptors(server.pid()),
            mappings: maps(server.pid()).lines().count(),
        }
    }

    fn assert_kept(&self, server: &Server, restarts: usize) {
        let now = Self::of(server);
        eprintln!(
            "{restarts} restarts: {} and {} KiB, {} and {} descriptors, {} and {} mappings",
            self.kib, now.kib, self.descriptors, now.descriptors, self.mappings, now.mappings
        );
        // Some descriptors are open only for a moment, before or after.
        eventually("the descriptors of before", || {
            let now = descriptors(server.pid());
            (now.abs_diff(self.descriptors) <= 2).then_some(())
        });
        assert!(now.mappings <= self.mappings + 8, "mappings");
        // A quarter of a KiB for each restart, besides what the allocator happens to hold.
        let most = self.kib + 256 + restarts as u64 / 4;
        assert!(now.kib <= most, "memory");
    }
}

/// Clients that request a mixture of pages, each on a new connection, until they are told to finish.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    done: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Runs `clients` clients while `work` runs. They finish also if `work` fails; otherwise the test would hang.
    fn during(server: &Server, clients: usize, work: impl FnOnce(&Self)) -> Self {
        struct Finish<'a>(&'a Load);
        impl Drop for Finish<'_> {
            fn drop(&mut self) {
                self.0.over.store(true, Ordering::Relaxed);
            }
        }
        let load = Self::default();
        thread::scope(|scope| {
            for client in 0..clients {
                let load = &load;
                scope.spawn(move || load.run(server, client));
            }
            let _finish = Finish(&load);
            work(&load);
        });
        load
    }

    fn run(&self, server: &Server, first: usize) {
        let large = vec![b'x'; 100_000];
        let hash = "\"100000 f23c6d1b\"";
        for number in first.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let (request, expected) = match number % 5 {
                0 | 1 => (Request::get("/hello"), "Hello world!"),
                2 => (
                    Request::new("POST", "/in/digest")
                        .chunked(&[&large[..60_000], &large[60_000..]]),
                    hash,
                ),
                3 => (Request::get("/out/several"), "one two three"),
                _ => (Request::get("/static.txt"), "static\n"),
            };
            match server.try_send(&request) {
                Ok(response) => {
                    let text = response.text();
                    let right = if expected == hash {
                        text.starts_with("\"100000 ")
                    } else {
                        text == expected
                    };
                    if response.status() != 200 || !response.is_complete() || !right {
                        self.fail(format!(
                            "{}: {} {:?} {text:.100}",
                            request.target(),
                            response.status(),
                            response.ending
                        ));
                    }
                }
                Err(error) => self.fail(format!("{}: {error}", request.target())),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn wait_for(&self, requests: usize) {
        eventually("the clients go on", || {
            (self.done() >= requests).then_some(())
        });
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }
}
