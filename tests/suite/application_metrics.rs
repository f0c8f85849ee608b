//! Metrics that applications define: one number for all children, even after children have ended.

use std::collections::BTreeSet;
use std::thread;

use harness::{Mpm, Pid, Server, eventually, kill, mpm_tests, ours_only, venv, wait_until_ended};

mpm_tests! {
    fn of_mod_wsgi(mpm) {
        ours_only!("mod_wsgi has no metrics of applications");
        let server = start(mpm, "own_metrics.wsgi");
        let (made, served) = load(&server, 100);
        let expected = [
            "# HELP app_orders_total Orders taken.".to_owned(),
            "# TYPE app_orders_total counter".to_owned(),
            format!("app_orders_total{{kind=\"/web\"}} {made}"),
            format!("app_orders_total{{kind=\"thread\"}} {made}"),
            format!("app_children {}", served.len()),
            format!("app_newest_process {}", greatest(&served)),
            "app_wait_seconds_bucket{le=\"0.001\"} 0".to_owned(),
            format!("app_wait_seconds_bucket{{le=\"60.0\"}} {made}"),
            format!("app_wait_seconds_count {made}"),
        ];
        expect(&server, &expected);

        // The gauges of an ended child no longer count; its counters do.
        let victim = greatest(&served);
        end(&server, victim);
        let left: BTreeSet<Pid> = served.into_iter().filter(|&pid| pid != victim).collect();
        eventually("the dead child has no gauges", || {
            has(&scrape(&server), &format!("app_children {}", left.len())).then_some(())
        });
        expect(&server, &[
            format!("app_orders_total{{kind=\"/web\"}} {made}"),
            format!("app_wait_seconds_count {made}"),
            format!("app_newest_process {}", greatest(&left)),
        ]);

        server.graceful_restart();
        let (more, _) = load(&server, 20);
        expect(&server, &[format!("app_orders_total{{kind=\"/web\"}} {}", made + more)]);
    }

    fn of_prometheus_client(mpm) {
        ours_only!("mod_wsgi has no metrics of applications");
        let server = start(mpm, "client_metrics.wsgi");
        let (made, served) = load(&server, 100);
        let expected = [
            "# HELP client_requests_total Requests.".to_owned(),
            "# TYPE client_requests_total counter".to_owned(),
            format!("client_requests_total{{path=\"/web\"}} {made}"),
            format!("client_loads_total {}", served.len()),
            format!("client_served {}", served.len()),
            "client_running 0".to_owned(),
            "# TYPE client_seconds histogram".to_owned(),
            "client_seconds_bucket{path=\"/web\",le=\"0.01\"} 0".to_owned(),
            format!("client_seconds_bucket{{path=\"/web\",le=\"+Inf\"}} {made}"),
            format!("client_seconds_count{{path=\"/web\"}} {made}"),
            "# TYPE client_sizes summary".to_owned(),
            format!("client_sizes_sum -{}", 2 * made),
            format!("client_sizes_count {made}"),
        ];
        expect(&server, &expected);
        let page = scrape(&server);
        assert!(!page.contains("client_build") && !page.contains("_created"), "{page}");

        // The application's own exposition also covers all children.
        let own = server.get("/app/own").expect(200).text();
        expect_in(&own, &[
            format!("client_sizes_count {made}.0"),
            "client_running 0.0".to_owned(),
            "client_build_info{version=\"1\"} 1.0".to_owned(),
        ]);
        end(&server, greatest(&served));
        eventually("the dead child has no gauges", || {
            has(&scrape(&server), &format!("client_served {}", served.len() - 1)).then_some(())
        });
        expect(&server, &[format!("client_requests_total{{path=\"/web\"}} {made}")]);
    }

    fn of_prometheus_client_later(mpm) {
        ours_only!("mod_wsgi has no metrics of applications");
        let server = start(mpm, "client_later.wsgi");
        server.allow_log("The metric 'wsgi_reserved' is not shown by the server: ");
        for _ in 0..2 {
            let own = server.get("/app").expect(200).text();
            // A metric that the server refuses stays in the child alone.
            assert!(own.lines().any(|line| line.starts_with("wsgi_reserved_total ")), "{own}");
        }
        assert!(server.count_log("The metric 'wsgi_reserved' is not shown") > 0);
        expect(&server, &["client_requests_total{path=\"later\"} 2".to_owned()]);
        assert!(!scrape(&server).contains("wsgi_reserved"));
    }

    fn switched_off(mpm) {
        ours_only!("mod_wsgi has no metrics of applications");
        let server = Server::builder(mpm)
            .python_home(venv())
            .conf("WSGIMetrics Off")
            .app("/app", "own_metrics.wsgi")
            .app("/client", "client_metrics.wsgi")
            .start();
        server.get("/app").expect(200);
        server.get("/client").expect(200);
        expect_in(&server.get("/client/own").expect(200).text(), &["client_loads_total 1.0".to_owned()]);
    }
}

fn start(mpm: Mpm, script: &str) -> Server {
    Server::builder(mpm)
        .python_home(venv())
        .conf("<Location /metrics>\n    SetHandler wsgi-metrics\n</Location>")
        .app("/app", script)
        .pool(3, 4)
        .start()
}

/// Sends requests, ten at a time, until there were `at_least` and several children have served. Returns the number of
/// requests, and the children.
fn load(server: &Server, at_least: usize) -> (usize, BTreeSet<Pid>) {
    let (mut made, mut served) = (0, BTreeSet::new());
    let client = || server.get("/app/web").expect(200).text().parse::<Pid>();
    // On a busy machine one child may answer thousands of requests before another one is ready.
    eventually("several children serve", || {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..10).map(|_| scope.spawn(client)).collect();
            for client in clients {
                served.insert(client.join().unwrap().unwrap());
            }
        });
        made += 10;
        (made >= at_least && served.len() > 1).then_some(())
    });
    (made, served)
}

/// Kills a child, and waits until it can no longer take a connection.
fn end(server: &Server, child: Pid) {
    // What is said about a process of a group.
    server.allow_log("WSGI1154");
    kill(child);
    wait_until_ended(child);
}

fn greatest(pids: &BTreeSet<Pid>) -> Pid {
    *pids.last().unwrap()
}

fn scrape(server: &Server) -> String {
    server.get("/metrics").expect(200).text()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

#[track_caller]
fn expect(server: &Server, lines: &[String]) {
    expect_in(&scrape(server), lines);
}

#[track_caller]
fn expect_in(page: &str, lines: &[String]) {
    for line in lines {
        assert!(has(page, line), "{line} in\n{page}");
    }
}
