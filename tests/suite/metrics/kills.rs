//! Children are killed under load, scripts change, httpd restarts, and a Prometheus scrapes: no count is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Exposition, Mpm, PATIENCE, Prometheus, Request, Server, Target, eventually_within, kill, long,
    mpm_tests, ours_only, script_answering, workspace,
};
use wsgi_dashboards::{Choice, queries};

use super::load::{BODY_LIMIT, Load};

mpm_tests! {
    fn metrics_survive_kills(mpm) {
        ours_only!("mod_wsgi does not count");
        // These tests run one after the other; together they would mostly wait for the machine's CPUs.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let server = start(mpm);
        let dashboards = workspace().join("dashboards");
        let rules = [dashboards.join("recording-rules.yml"), dashboards.join("alert-rules.yml")];
        let targets = [
            Target { job: "wsgi", address: server.metrics_address() },
            Target { job: "handler", address: server.address() },
        ];
        let prometheus = Prometheus::start(&targets, &rules.each_ref().map(|path| &**path));
        // If series begin at 0, every increase shows.
        prometheus.wait_for_scrapes(1);
        let load = Load::default();
        let violence = Violence::default();
        let wrong = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (load, server) = (&load, &server);
                scope.spawn(move || load.run(server, client));
            }
            scope.spawn(|| watch(&server, &load, &wrong));
            let _end = load.over.at_end();
            violence.run(&server);
        });
        let mut wrong = wrong.into_inner().unwrap();
        let page = settled(&server, &mut wrong);
        check_counts(&page, &load, &violence, &mut wrong);
        check_prometheus(&prometheus, &page, &violence, &mut wrong);
        let (done, kills, restarts) = (load.done(), violence.kills(), violence.restarts());
        eprintln!("{mpm}: {done} requests, {kills} children killed, {restarts} restarts, cut: {:?}", load.cut());
        wrong.truncate(20);
        // `cargo xtask mutants` looks for this text.
        assert!(wrong.is_empty(), "the numbers are wrong:\n{}", wrong.join("\n"));
        // The children may be new, and may have served no request.
        server.get("/m/collect").expect(200);
        check_traffic(&server.scrape(), &load, &violence);
        check_dashboards(&server, &prometheus);
        server.allow_log("");
    }
}

static ALONE: Mutex<()> = Mutex::new(());

const CLIENTS: u64 = 6;

fn start(mpm: Mpm) -> Server {
    // All applications run in the main interpreter: with other interpreters, Python 3.11 may hang in the copy that
    // `os.fork` makes.
    Server::builder(mpm)
        .pool(4, 3)
        .metrics_listener()
        .app("/fast", "hello.wsgi")
        .app("/m", "measured.wsgi")
        .file("htdocs/edited.wsgi", script_answering(0))
        .conf(&format!(
            "WSGIApplicationGroup %{{GLOBAL}}
            WSGIScriptAlias /main ${{APPS}}/measured.wsgi
            WSGIScriptAlias /edited ${{ROOT}}/htdocs/edited.wsgi
            WSGISlowRequests 0.05
            LimitRequestBody {BODY_LIMIT}
            KeepAlive On"
        ))
        // Killed children must be replaced soon.
        .conf(if mpm.threaded() {
            "MinSpareThreads 12\nMaxSpareThreads 12"
        } else {
            "MinSpareServers 6"
        })
        .start()
}

/// The disturbances of the server.
#[derive(Default)]
struct Violence {
    kills: AtomicU64,
    restarts: AtomicU64,
}

impl Violence {
    fn run(&self, server: &Server) {
        let end = Instant::now() + Duration::from_secs(if long() { 60 } else { 12 });
        let mut random = Random(u64::from(server.port()) << 16 | 1);
        eprintln!("seed {:#x}", random.0);
        let (mut next_restart, mut version) = (Instant::now() + Duration::from_secs(3), 0);
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(400 + random.below(500)));
            let children = server.children();
            if !children.is_empty() {
                kill(children[random.below(children.len() as u64) as usize]);
                self.kills.fetch_add(1, Ordering::Relaxed);
            }
            version += 1;
            server.write("htdocs/edited.wsgi", script_answering(version));
            if Instant::now() >= next_restart {
                harness::graceful(server.pid());
                self.restarts.fetch_add(1, Ordering::Relaxed);
                next_restart = Instant::now() + Duration::from_millis(2500 + random.below(2000));
            }
        }
    }

    fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

/// Marsaglia's xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Scrapes more often than Prometheus does: no counter may decrease or vanish, no scrape may fail, and each counted
/// request must have a duration.
fn watch(server: &Server, load: &Load, wrong: &Mutex<Vec<String>>) {
    let complain = |what: String| wrong.lock().unwrap().push(what);
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    while !load.is_over() {
        let response = match server.ask_helper(&Request::get("/metrics")) {
            Ok(response) => response,
            Err(error) => {
                complain(format!("a scrape failed: {error}"));
                continue;
            }
        };
        let page = match Exposition::parse(&response.text()) {
            Ok(page) => page,
            Err(error) => {
                complain(format!("a scrape was torn: {error}"));
                continue;
            }
        };
        let now: BTreeMap<String, f64> = page
            .growing()
            .map(|sample| (sample.series(), sample.value))
            .collect();
        for (series, old) in &before {
            match now.get(series) {
                None => complain(format!("{series} has vanished")),
                Some(new) if new < old => {
                    complain(format!("{series} went back from {old} to {new}"));
                }
                Some(_) => {}
            }
        }
        for app in APPS {
            for code in ["2xx", "3xx", "4xx", "5xx"] {
                let labels = [("app", app), ("code", code)];
                let requests = page.sum("wsgi_requests_total", &labels);
                let timed = page.sum("wsgi_request_duration_seconds_count", &labels);
                if timed < requests {
                    complain(format!(
                        "{app} {code}: {requests} requests, {timed} of them timed"
                    ));
                }
            }
        }
        before = now;
        thread::sleep(Duration::from_millis(50));
    }
}

const APPS: [&str; 4] = ["/fast", "/m", "/main", "/edited"];

/// Returns the page after all requests have ended.
fn settled(server: &Server, wrong: &mut Vec<String>) -> Exposition {
    let mut before = -1.0;
    let settled = eventually_within(PATIENCE, || {
        let page = server.scrape();
        let now = page.sum("wsgi_requests_total", &[]);
        let quiet = page.sum("wsgi_requests_in_flight", &[]) == 0.0;
        let same = now == before;
        before = now;
        thread::sleep(Duration::from_millis(100));
        (quiet && same).then_some(page)
    });
    settled.unwrap_or_else(|| {
        wrong.push("requests are in flight, and there are none".into());
        server.scrape()
    })
}

/// Compares the counts of the clients with those of the server.
///
/// A request that was cut may have been counted or not. A child that is killed after the last byte of a response and
/// before it has counted the request loses one count, so the sum may be less by the number of kills.
fn check_counts(page: &Exposition, load: &Load, violence: &Violence, wrong: &mut Vec<String>) {
    let (complete, cut) = (load.complete(), load.cut());
    let kills = violence.kills() as f64;
    let all: u64 = complete.values().sum();
    let all_cut: u64 = cut.values().sum();
    let mut between = |what: String, counted: f64, least: f64, most: f64| {
        if counted < least || counted > most {
            wrong.push(format!(
                "{what}: counted {counted}, should be {least} to {most}"
            ));
        }
    };
    let counted = page.sum("wsgi_requests_total", &[]);
    between(
        "all requests".into(),
        counted,
        all as f64 - kills,
        (all + all_cut) as f64,
    );
    for ((app, method, code), count) in &complete {
        let labels = [("app", *app), ("method", *method), ("code", *code)];
        let counted = page.sum("wsgi_requests_total", &labels);
        let cut = cut.get(app).copied().unwrap_or(0);
        between(
            format!("{app} {method} {code}"),
            counted,
            *count as f64 - kills,
            (count + cut) as f64,
        );
    }
    // A duration is recorded before its request is counted, and a kill may come between the two.
    for code in ["2xx", "3xx", "4xx", "5xx"] {
        let requests = page.sum("wsgi_requests_total", &[("code", code)]);
        let timed = page.sum("wsgi_request_duration_seconds_count", &[("code", code)]);
        between(
            format!("durations of {code}"),
            timed,
            requests,
            requests + kills,
        );
    }
    // Copies of a process that an application forks count nothing.
    let copies = page.sum(
        "wsgi_log_lines_total",
        &[("app", "/main"), ("stream", "stderr")],
    );
    between("lines of forked copies".into(), copies, 0.0, 0.0);
    let killed = page.sum("wsgi_children_exited_total", &[("how", "killed")]);
    between("killed children".into(), killed, 1.0, kills);
    let (started, exited, living) = (
        page.sum("wsgi_children_started_total", &[]),
        page.sum("wsgi_children_exited_total", &[]),
        page.sum("wsgi_children", &[]),
    );
    // A child that has just started has no arena yet.
    between(
        "children started, less those that ended".into(),
        started - exited,
        living,
        living + 3.0,
    );
}

/// Compares them with the numbers in Prometheus.
fn check_prometheus(
    prometheus: &Prometheus,
    page: &Exposition,
    violence: &Violence,
    wrong: &mut Vec<String>,
) {
    let one = |query: &str| {
        let points = prometheus.query(query);
        assert_eq!(points.len(), 1, "{query}: {points:?}");
        points[0].value
    };
    let counted = page.sum("wsgi_requests_total", &[]);
    let mut seen = 0.0;
    eventually_within(PATIENCE, || {
        seen = one("sum(wsgi_requests_total{job=\"wsgi\"})");
        (seen == counted).then_some(())
    });
    if seen != counted {
        wrong.push(format!("Prometheus: {seen} requests of {counted}"));
    }
    for query in [
        "min_over_time(up{job=\"wsgi\"}[1h])",
        "min_over_time(scrape_samples_scraped{job=\"wsgi\"}[1h])",
    ] {
        if one(query) < 1.0 {
            wrong.push(format!("Prometheus: a scrape failed: {query}"));
        }
    }
    // A child that is killed while it answers a scrape makes the scrape fail.
    let failed =
        one("count_over_time(up{job=\"handler\"}[1h]) - sum_over_time(up{job=\"handler\"}[1h])");
    if failed > (violence.kills() + violence.restarts()) as f64 {
        wrong.push(format!("Prometheus: {failed} scrapes of children failed"));
    }
    let names: BTreeSet<&str> = page.growing().map(|sample| sample.name.as_str()).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let resets = prometheus.query(&format!("resets({name}[1h])"));
        if resets.is_empty() {
            wrong.push(format!("Prometheus: there is no {name}"));
        }
        for series in resets.iter().filter(|series| series.value != 0.0) {
            wrong.push(format!("Prometheus: {name} was reset: {series:?}"));
        }
    }
}

/// Checks that there was load, and that every counter has counted.
fn check_traffic(page: &Exposition, load: &Load, violence: &Violence) {
    assert!(violence.kills() >= 8 && violence.restarts() >= 2);
    let (complete, cut) = (load.complete(), load.cut());
    let all: u64 = complete.values().sum();
    assert!(all > 500, "only {all} requests");
    let cut: u64 = cut.values().sum();
    assert!(
        cut < all / 10,
        "{cut} of {all} requests were cut: the bounds of the counts mean nothing"
    );
    assert!(page.sum("wsgi_children_exited_total", &[("how", "clean")]) >= 1.0);
    for family in wsgi_telemetry::catalogue::FAMILIES {
        let names = [family.name.to_owned(), format!("{}_count", family.name)];
        let moved = names.iter().any(|name| page.sum(name, &[]) > 0.0);
        let still = STILL.iter().find(|(name, _)| *name == family.name);
        assert!(moved || still.is_some(), "{} has not moved", family.name);
    }
}

/// Families that stay at 0 under this load, with the reason.
const STILL: [(&str, &str); 8] = [
    (
        "wsgi_children_recycles_total",
        "no child is replaced; `rolls` counts them",
    ),
    (
        "wsgi_request_timeouts_total",
        "no request is slow enough; `numbers::timeouts` counts them",
    ),
    (
        "wsgi_requests_in_flight",
        "the page was taken when all was over",
    ),
    (
        "wsgi_oldest_request_age_seconds",
        "the page was taken when all was over",
    ),
    (
        "wsgi_python_gc_uncollectable_objects_total",
        "no Python of today leaves any behind",
    ),
    (
        "wsgi_metrics_overflows_total",
        "there is room for everything",
    ),
    (
        "wsgi_metrics_series",
        "no application has metrics of its own here",
    ),
    ("wsgi_mpm_connections", "only an asynchronous MPM has them"),
];

/// Checks that each query of each panel finds something, and that each alert exists.
fn check_dashboards(server: &Server, prometheus: &Prometheus) {
    let choice = Choice::everything("1m");
    let mut empty = Vec::new();
    // The last scrape may have found only children without an interpreter. So there are more requests and scrapes.
    eventually_within(PATIENCE, || {
        empty.clear();
        server.get("/m/collect").expect(200);
        for query in queries() {
            let points = prometheus.query(&query.with(&choice));
            // NaN, a quotient of zeros, is not a result.
            let answered = points.iter().any(|point| !point.value.is_nan());
            let excused = query.may_be_empty.is_some()
                && (server.mpm() != Mpm::Event || !query.expr.contains("wsgi_mpm_connections"))
                // If a child has one thread, no thread waits for the GIL.
                || server.mpm() == Mpm::Prefork && query.expr.contains("wsgi_gil_wait_seconds");
            if !answered && !excused {
                empty.push(format!(
                    "{} › {}: {}",
                    query.dashboard, query.panel, query.expr
                ));
            }
        }
        let found = empty.is_empty().then_some(());
        if found.is_none() {
            thread::sleep(Duration::from_millis(300));
        }
        found
    });
    assert!(
        empty.is_empty(),
        "{} queries find nothing:\n{}",
        empty.len(),
        empty.join("\n")
    );
    let expected: BTreeSet<String> = wsgi_dashboards::alerts::alerts()
        .map(|alert| alert.name.to_owned())
        .collect();
    assert_eq!(
        prometheus.alerts().into_iter().collect::<BTreeSet<_>>(),
        expected
    );
}
