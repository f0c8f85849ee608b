//! `wsgi-status` in HTML and JSON, the block in `server-status`, and wsgictl.

use std::collections::BTreeSet;

use harness::{
    Exposition, Mpm, Request, Server, eventually, mpm_tests, ours_only, process_group,
    promtool_is_silent,
};
use serde_json::Value;

use super::start;

mpm_tests! {
    fn the_page(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = start(mpm);
        server.get("/m/ok").expect(200);
        let mut inside = server.ask("/m/block/%3Cscript%3E?secret=1");
        server.expect_count("wsgi_requests_in_flight", &[("app", "/m")], 1);
        let response = server.get("/wsgi-status").expect(200);
        assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(response.header("Cache-Control"), Some("no-store"));
        assert!(response.header("Content-Security-Policy").unwrap().starts_with("default-src 'none'"));
        let page = response.text();
        is_well_formed(&page);
        assert!(page.contains("WSGI status</title>"), "{page}");
        assert!(page.contains("http-equiv=\"refresh\" content=\"5\""));
        assert!(page.contains("/m/block/&lt;script"), "{page}");
        assert!(!page.contains("secret"));
        assert!(!page.contains("<script"));
        for child in server.children() {
            assert!(page.contains(&child.to_string()), "{child} in {page}");
        }
        assert!(!server.get("/wsgi-status?refresh=0").text().contains("http-equiv=\"refresh\""));
        assert!(server.get("/wsgi-status?refresh=60").text().contains("http-equiv=\"refresh\" content=\"60\""));
        for strange in ["-1", "x", "99999999999", "%22%3E%3Cscript%3E"] {
            let page = server.get(&format!("/wsgi-status?refresh={strange}")).expect(200).text();
            is_well_formed(&page);
            assert!(!page.contains("<script"));
        }
        server.write("gate", "open");
        inside.read_response("GET").unwrap();
    }

    fn the_page_as_json(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = start(mpm);
        for _ in 0..3 {
            server.get("/m/ok").expect(200);
        }
        server.get("/m/status/503").expect(503);
        let mut inside = server.connect();
        inside.send(Request::new("PUT", "/m/block?secret=1").to_bytes());
        eventually("the application has it", || {
            (server.status()["running"][0]["phase"] == "in the application").then_some(())
        });
        server.expect_count("wsgi_requests_total", &[], 4);
        let response = server.get("/wsgi-status?format=json").expect(200);
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        let status = response.json();
        let running = &status["running"];
        assert_eq!(running.as_array().unwrap().len(), 1, "{running}");
        for (field, value) in [("application", "/m"), ("method", "PUT"), ("path", "/m/block")] {
            assert_eq!(running[0][field], value);
        }
        assert!(running[0]["group"].as_str().unwrap().ends_with("/m"), "{running}");
        assert!(running[0]["age_seconds"].as_f64().unwrap() > 0.0);
        let pids: BTreeSet<i64> = list(&status["children"]).map(|child| child["pid"].as_i64().unwrap()).collect();
        assert_eq!(pids, server.children().into_iter().map(i64::from).collect());
        let app_processes: Vec<i64> = server.app_processes().into_iter().map(i64::from).collect();
        assert!(app_processes.contains(&running[0]["pid"].as_i64().unwrap()));
        let group = process_group().unwrap_or("");
        assert_eq!(running[0]["process_group"], group);
        for of_group in list(&status["process_groups"]) {
            assert_eq!(of_group["name"], group);
            for process in list(&of_group["processes"]) {
                assert!(app_processes.contains(&process["pid"].as_i64().unwrap()), "{process}");
                assert_eq!((&process["state"], &process["in_flight"]), (&"ready".into(), &1.into()), "{process}");
            }
        }
        for child in list(&status["children"]) {
            // A spare child that prefork has just made may still be starting.
            let spare = child["pid"] != running[0]["pid"] && child["state"] == "starting";
            assert!(spare || child["state"] == "ready", "{child}");
            assert!(child["resident_bytes"].as_u64().unwrap() > 1_000_000);
        }
        let app = list(&status["applications"]).find(|app| app["label"] == "/m").unwrap();
        assert_eq!(app["in_flight"], 1);
        assert_eq!(app["since_start"]["requests"], 4);
        assert_eq!(app["since_start"]["errors"], 1);
        let totals = &status["totals"];
        assert_eq!((&totals["by_class"]["2xx"], &totals["by_class"]["5xx"]), (&3.into(), &1.into()));
        assert_eq!(totals["children_killed"], 0);
        assert_eq!(status["workers"]["limit"], 4);
        assert_eq!(status["server"]["mpm"], mpm.to_string());
        assert!(["ok", "notice"].contains(&status["health"]["level"].as_str().unwrap()), "{}", status["health"]);
        server.write("gate", "open");
        inside.read_response("PUT").unwrap();
    }

    fn the_block_in_server_status(mpm) {
        ours_only!("mod_wsgi has no such block");
        let server = Server::builder(mpm)
            .modules(&["status"])
            .metrics()
            .app("/m", "measured.wsgi")
            .conf("SetEnv test.gate ${ROOT}/gate\n<Location /server-status>\nSetHandler server-status\n</Location>")
            .start();
        server.get("/m/ok").expect(200);
        server.get("/m/status/500").expect(500);
        let mut inside = server.ask("/m/block");
        server.expect_count("wsgi_requests_in_flight", &[], 1);
        server.expect_count("wsgi_requests_total", &[], 2);
        let page = server.get("/server-status").expect(200).text();
        assert!(page.contains("<h2>WSGI applications</h2>") && page.contains(">/m<"), "{page}");
        let lines = server.get("/server-status?auto").expect(200).text();
        let value = |key: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{key} in {lines}")).to_owned()
        };
        assert_eq!(value("WsgiRequestsRunning"), "1");
        assert_eq!(value("WsgiTotalRequests"), "2");
        assert_eq!(value("WsgiTotalErrors"), "1");
        assert_eq!(value("WsgiWorkersLimit"), "4");
        assert_eq!(value("WsgiChildren"), server.children().len().to_string());
        assert!(value("WsgiOldestRequestSeconds").parse::<f64>().unwrap() > 0.0);
        // The other lines of that page are still there.
        assert!(!value("Scoreboard").is_empty());
        server.write("gate", "open");
        inside.read_response("GET").unwrap();
    }

    fn wsgictl(mpm) {
        ours_only!("mod_wsgi has no such program");
        let server = start(mpm);
        for _ in 0..3 {
            server.get("/m/ok").expect(200);
        }
        let mut inside = server.ask("/m/block/%1b%5b31mred");
        server.expect_count("wsgi_requests_in_flight", &[], 1);
        server.expect_count("wsgi_requests_total", &[], 3);
        let text = said_by(&server, &["metrics"]);
        promtool_is_silent(&text);
        let page = Exposition::parse(&text).unwrap();
        assert_eq!(page.sum("wsgi_requests_total", &[("app", "/m")]), 3.0);
        // httpd's scoreboard appears as some child has last seen it.
        assert_eq!(page.types, server.metrics().types);
        assert!(said_by(&server, &["metrics", "--openmetrics"]).ends_with("# EOF\n"));
        let status: Value = serde_json::from_str(&said_by(&server, &["status", "--json"])).unwrap();
        assert_eq!(status["totals"]["requests"]["requests"], 3);
        assert_eq!(status["running_count"], 1);
        let text = said_by(&server, &["status"]);
        assert!(text.contains("/m/block"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        let top = said_by(&server, &["top", "--count", "2", "--interval", "0.1", "--json"]);
        assert_eq!(top.lines().count(), 2, "{top}");
        for line in top.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        server.write("gate", "open");
        inside.read_response("GET").unwrap();
    }
}

/// The output of wsgictl for a server that was killed, and for files that are not segments.
#[test]
fn wsgictl_without_a_server() {
    ours_only!("mod_wsgi has no such program");
    let server = start(Mpm::Event);
    server.get("/m/ok").expect(200);
    // The module logs this about every ten seconds while the name leads to another file.
    server.allow_log("WSGI1121");
    let copy = server.root().join("copy");
    std::fs::copy(server.segment(), &copy).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    let segment = server.segment();
    for broken in [
        &b""[..],
        b"nonsense",
        &bytes[..100],
        &bytes[..8192],
        &[0; 8192],
    ] {
        // The server has mapped the old file; this is another file in its place.
        std::fs::remove_file(&segment).unwrap();
        std::fs::write(&segment, broken).unwrap();
        for arguments in [&["status"][..], &["metrics"], &["status", "--json"]] {
            let output = server.wsgictl(arguments);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(output.stdout.is_empty());
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("segment"),
                "{output:?}"
            );
        }
    }
    std::fs::remove_file(&segment).unwrap();
    assert_eq!(server.wsgictl(&["status"]).status.code(), Some(1));
    // None of this affects the server.
    assert_eq!(server.metrics().sum("wsgi_requests_total", &[]), 1.0);
}

#[track_caller]
fn said_by(server: &Server, arguments: &[&str]) -> String {
    let output = server.wsgictl(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("it is a list").iter()
}

/// Checks that elements are closed in the right order, and that quotes match.
#[track_caller]
pub(super) fn is_well_formed(page: &str) {
    let rest = page.strip_prefix("<!DOCTYPE html>").expect("it is HTML");
    let mut open: Vec<&str> = Vec::new();
    let mut rest = rest;
    while let Some(begin) = rest.find('<') {
        assert!(
            !rest[..begin].contains('>') || open.last() == Some(&"style"),
            "{}",
            &rest[..begin]
        );
        rest = &rest[begin + 1..];
        let end = end_of_tag(rest).unwrap_or_else(|| panic!("a tag without end: {rest:.80}"));
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap();
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(),
            "<{tag}>"
        );
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "in {page}");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} of {page}");
}

/// Returns the position of the `>` that ends a tag, which is not in the value of an attribute.
fn end_of_tag(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(at)
    })
}

const VOID: [&str; 8] = ["meta", "link", "br", "hr", "img", "input", "col", "wbr"];
