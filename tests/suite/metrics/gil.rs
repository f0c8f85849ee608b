//! Waits for the GIL: an application that keeps the GIL causes waits in the metrics, and one that does not causes none.

use std::time::Duration;

use harness::{Exposition, Mpm, Request, Server, long, ours_only};

/// Returns the number of waits for the GIL of at most `le` seconds.
fn waits(page: &Exposition, le: &str) -> f64 {
    page.at_most("wsgi_gil_wait_seconds", le, &[("app", "/m")])
}

/// Requests `path`, then sends `requests` short requests with a pause between them, and returns the page of metrics.
fn server_after(path: &str, requests: u64, pause: Duration) -> Exposition {
    // One MPM is enough: what is measured here does not depend on httpd.
    let server = Server::builder(Mpm::Worker)
        .one_child()
        .metrics()
        .app("/m", "measured.wsgi")
        .start();
    server.get(&format!("/m/{path}")).expect(200);
    let mut connection = server.connect();
    for number in 1..requests {
        // Fewer requests than httpd serves on one connection.
        if number % 50 == 0 {
            connection = server.connect();
        }
        // The thread that keeps the GIL gets it back during the pause.
        std::thread::sleep(pause);
        let request = Request::get("/m/ok").keep_alive();
        connection.exchange(&request).unwrap().expect(200);
    }
    server.expect_count("wsgi_requests_total", &[], requests);
    let page = server.metrics();
    server.get("/m/rest").expect(200);
    page
}

#[test]
fn a_thread_that_spins() {
    ours_only!("mod_wsgi does not count it");
    let page = server_after("spin", 150, Duration::from_millis(3));
    let all = page.sum("wsgi_gil_wait_seconds_count", &[("app", "/m")]);
    // The switch interval is 5 ms: a thread that has waited that long asks for the GIL, and gets it a little later. How
    // little is a question for a quiet machine.
    let most = if long() { "0.009" } else { "0.1" };
    let band = waits(&page, most) - waits(&page, "0.004");
    let bounds = [
        "0.0001", "0.0005", "0.001", "0.004", "0.009", "0.014", "0.019", "0.05", "0.1",
    ];
    let counts: Vec<f64> = bounds.iter().map(|le| waits(&page, le)).collect();
    assert!(band >= 0.5 * all, "{band} of {all}: {bounds:?} {counts:?}");
    assert!(page.sum("wsgi_gil_wait_seconds_sum", &[("app", "/m")]) >= 0.004 * band);
    eprintln!("spinning: {band} of {all} waits took 0.004 to {most} s");
}

#[test]
fn a_quiet_application() {
    ours_only!("mod_wsgi does not count it");
    let page = server_after("ok", 1000, Duration::ZERO);
    let all = page.sum("wsgi_gil_wait_seconds_count", &[("app", "/m")]);
    let short = waits(&page, "0.0001");
    assert!(all >= 1000.0);
    // On a busy machine some requests have to wait for a CPU.
    let least = if long() { 0.99 } else { 0.9 };
    assert!(short >= least * all, "{short} of {all}");
    eprintln!("quiet: {short} of {all} waits took less than 0.1 ms");
}
