//! The time for which clients wait when a server whose application loads slowly is restarted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, graceful, mpm_tests};

mpm_tests! {
    /// The time is only printed. The test requires that no request fails and that each one ends.
    fn a_graceful_restart_with_a_slow_load(mpm) {
        let script = "import time\ntime.sleep(1.5)\n\
             def application(environ, start_response):\n    \
             start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b'loaded']\n";
        let server = Server::builder(mpm)
            .pool(2, 8)
            .file("slow.wsgi", script)
            .conf("WSGIScriptAlias /app ${ROOT}/slow.wsgi")
            .start();
        server.get("/app").expect(200);
        let over = AtomicBool::new(false);
        let longest = thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !over.load(Relaxed) {
                    let asked = Instant::now();
                    assert_eq!(server.get("/app").expect(200).text(), "loaded");
                    longest = longest.max(asked.elapsed());
                }
                longest
            });
            thread::sleep(Duration::from_secs(1));
            graceful(server.pid());
            thread::sleep(Duration::from_secs(5));
            over.store(true, Relaxed);
            client.join().expect("no request fails")
        });
        println!("{mpm}: the longest request over a graceful restart took {longest:?}");
        assert!(longest < Duration::from_secs(15), "{longest:?}");
    }
}
