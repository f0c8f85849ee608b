//! Tests of all renderers of a status.

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::fixture::{self, TestServer};
use super::*;
use crate::board::{ChildState, RollPhase};
use crate::{Phase, Snapshot};

fn all() -> [(&'static str, TestServer); 5] {
    [
        ("fresh", fixture::fresh()),
        ("calm", fixture::calm()),
        ("trouble", fixture::trouble()),
        ("rolling", fixture::rolling()),
        ("stopped", fixture::stopped()),
    ]
}

fn style(width: usize) -> TextStyle {
    TextStyle {
        width,
        colours: false,
        rows: 20,
    }
}

/// Writes pages into `$TMPDIR` to look at, also with `wsgictl top --segment`: `cargo test -p wsgi-telemetry
/// pages_to_look_at -- --ignored`.
#[test]
#[ignore = "writes files"]
fn pages_to_look_at() {
    for (name, server) in all() {
        let folder = std::env::temp_dir();
        let status = server.status();
        for (kind, text) in [
            ("html", render_html(&status, Some(5))),
            ("json", render_json(&status)),
            ("txt", render_text(&status, style(100))),
        ] {
            let file = folder.join(format!("wsgi-status-{name}.{kind}"));
            std::fs::write(file, text).expect("written");
        }
        let cells = server.segment.cells().iter();
        let bytes: Vec<u8> = cells
            .flat_map(|cell| cell.load(Relaxed).to_ne_bytes())
            .collect();
        let file = folder.join(format!("wsgi-status-{name}.segment"));
        std::fs::write(file, bytes).expect("written");
    }
}

#[test]
fn the_first_sentence_says_what_is_wrong() {
    let first = |server: &TestServer| {
        let health = server.status().health;
        (health.level, health.findings[0].text.clone())
    };
    let (level, text) = first(&fixture::trouble());
    assert_eq!(level, Level::Trouble);
    // It grows older while the test runs.
    let start = "All 25 workers are busy; the oldest request has been running for 4 min ";
    assert!(text.starts_with(start), "{text}");
    let end = " s (in the application): GET /shop/report/yearly.";
    assert!(text.ends_with(end), "{text}");
    let (level, text) = first(&fixture::calm());
    assert_eq!(level, Level::Ok);
    assert!(text.starts_with("2 of 25 workers are busy, 19."), "{text}");
    assert!(text.ends_with(", none failed."), "{text}");
    assert_eq!(
        first(&fixture::fresh()),
        (Level::Ok, String::from("0 of 25 workers are busy."))
    );
    let (level, text) = {
        let segment = fixture::empty();
        let health = Status::new(&segment.snapshot(), &segment.history()).health;
        (health.level, health.findings[0].text.clone())
    };
    assert_eq!(
        (level, &*text),
        (Level::Trouble, "No child is ready to serve requests.")
    );
}

#[test]
fn numbers_are_those_of_the_segment() {
    let status = fixture::trouble().status();
    let shop = &status.applications[2];
    assert_eq!(shop.label, "/shop");
    assert_eq!((shop.in_flight, status.running_count), (24, 25));
    assert_eq!(shop.since_start.requests, 60 * 150 + 14 * 22);
    assert_eq!(shop.since_start.errors, 14 * 22);
    let recent = shop.recent.as_ref().expect("samples");
    assert_eq!((recent.requests, recent.errors), (6 * 172, 6 * 22));
    assert!((55.0..70.0).contains(&recent.duration_seconds));
    assert!(shop.oldest_request_seconds.is_some_and(|age| age > 251.0));
    assert_eq!(shop.rejected["queue_full"], 12);
    assert_eq!(status.totals.by_class["none"], 28);
    assert_eq!(status.totals.children_killed, 3);
    let admin = &status.applications[0];
    assert_eq!((&*admin.label, admin.interpreters["failed"]), ("/admin", 5));
    let events: Vec<_> = status
        .events
        .iter()
        .map(|event| (event.kind, event.detail))
        .collect();
    assert_eq!(events[0], ("timed_out", "application"));
    assert_eq!(events[4], ("rejected", "queue_full"));
    assert_eq!(events[5], ("slow", ""));
    assert!(
        status
            .children
            .iter()
            .any(|child| child.state == "draining")
    );
}

#[test]
fn between_two_moments_only_what_happened_then_counts() {
    let server = fixture::calm();
    let earlier = server.segment.snapshot();
    server.requests(0, 50, 900, "2xx");
    server.requests(0, 10, 900, "5xx");
    let mut later = server.segment.snapshot();
    later.now = earlier.now + 2 * fixture::SECOND;
    let status = Status::since(&later, &earlier, &[]);
    let recent = status.applications[2].recent.clone().expect("a window");
    assert_eq!((recent.requests, recent.errors), (60, 10));
    assert_eq!(recent.requests_per_second, 30.0);
    assert!(
        recent
            .p50_seconds
            .is_some_and(|p50| (0.6..1.2).contains(&p50))
    );
    assert!(recent.gil_wait_p99_seconds.is_some());
    assert_eq!(
        status.applications[0].recent.as_ref().map(|r| r.requests),
        Some(0)
    );
    assert_eq!(status.recent, Some(recent));
}

#[test]
fn what_applications_are_called_is_no_markup() {
    let server = fixture::calm();
    let evil = "/<script>alert('x&amp;\")</script>";
    server.run(1, 0, evil, Phase::Reading, 1.0);
    server.note(crate::Notable::Slow, 200, 5, evil);
    let status = server.status();
    let page = render_html(&status, Some(5));
    assert!(page.contains("/&lt;script&gt;alert('x&amp;amp;?)&lt;/script&gt;"));
    assert!(!page.contains("<script"));
    well_formed(&page);
    well_formed(&render_html_fragment(&status));
}

#[test]
fn pages_are_well_formed_and_complete() {
    for (name, server) in all() {
        let status = server.status();
        let page = render_html(&status, Some(5));
        well_formed(&page);
        for needed in [
            "<html lang=\"en\">",
            "<meta http-equiv=\"refresh\" content=\"5\">",
            "<h1>",
            "prefers-color-scheme",
            "@media print",
            "scope=\"col\"",
            "<caption>",
        ] {
            assert!(page.contains(needed), "{needed} in {name}");
        }
        assert!(!page.contains("<script") && !page.contains("style=\""));
        let still = render_html(&status, None);
        assert!(!still.contains("http-equiv=\"refresh\""));
        assert!(still.contains("href=\"?refresh=5\""));
    }
    let trouble = render_html(&fixture::trouble().status(), None);
    assert!(trouble.contains("<svg") && trouble.contains("<title>99th percentile"));
}

#[test]
fn json_keeps_its_names() {
    let json = render_json(&fixture::trouble().status());
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["health"]["level"], "trouble");
    assert_eq!(value["workers"]["busy"], 25);
    assert_eq!(value["running"][0]["path"], "/shop/report/yearly");
    assert_eq!(value["running"][0]["phase"], "in the application");
    assert!(value["running"][0]["age_seconds"].as_f64() > Some(251.0));
    let shop = &value["applications"][2];
    assert!(shop["recent"]["p99_seconds"].is_f64());
    assert_eq!(shop["history"].as_array().map(Vec::len), Some(59));
    assert!(value["children"][0]["resident_bytes"].is_null());
    assert_eq!(value["events"][0]["kind"], "timed_out");
    assert_eq!(value["totals"]["children_killed"], 3);
}

#[test]
fn text_fits_the_terminal() {
    for (name, server) in all() {
        let status = server.status();
        for width in [80, 100, 200] {
            let text = render_text(&status, style(width));
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(
                widest <= Some(width),
                "{name}: {widest:?} of {width}\n{text}"
            );
        }
        let coloured = render_text(
            &status,
            TextStyle {
                colours: true,
                ..style(80)
            },
        );
        let plain = render_text(&status, style(80));
        assert!(coloured.contains("\x1b[") && !plain.contains('\x1b'));
    }
}

#[test]
fn a_roll_is_told_child_by_child() {
    let status = fixture::rolling().status();
    let roll = status.roll.as_ref().expect("one");
    let told = "Replacing children: 2 of 5 done, because /srv/shop/views.py changed.";
    assert_eq!((roll.phase, &*roll.text), ("rolling", told));
    assert_eq!(
        (roll.ended_timestamp_seconds, status.code_revision),
        (None, 2)
    );
    let children: Vec<_> = status
        .children
        .iter()
        .map(|child| (child.state, child.retiring, child.revision))
        .collect();
    assert_eq!(
        children,
        [
            ("ready", None, Some(2)),
            ("starting", None, Some(2)),
            ("draining", None, Some(1)),
            ("ready", Some("source_changed"), Some(1)),
            ("not_ready", None, Some(1)),
        ]
    );
    // The child that cannot load comes first, before everything that is fine.
    let first = &status.health.findings[0];
    assert_eq!(first.level, Level::Notice);
    assert!(
        first.text.starts_with("1 child could not load"),
        "{first:?}"
    );
    let page = render_html(&status, None);
    let text = render_text(&status, style(100));
    for page in [&page, &text] {
        assert!(page.contains(told), "{page}");
        assert!(page.contains("retiring: source changed") && page.contains("not ready"));
        assert!(page.contains("numpy._core") && page.contains("shared with the process"));
        assert!(
            page.contains("delegate, 3 to 25 of 25 threads inside"),
            "{page}"
        );
        assert!(page.contains("pool of 4 threads"), "{page}");
    }
    let groups: Vec<_> = status
        .groups
        .iter()
        .map(|group| (&*group.name, group.gil, &*group.because_of, &*group.plan))
        .collect();
    assert_eq!(
        groups,
        [
            ("", "own", "", ""),
            (
                "admin",
                "shared",
                "numpy._core",
                "delegate, 3 to 25 of 25 threads inside"
            ),
            ("api", "undecided", "", "pool of 4 threads"),
        ]
    );
    assert!(
        !text.contains("undecided") && text.contains("\napi: pool"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&render_json(&status)).expect("JSON");
    assert_eq!(json["roll"]["of"], 5);
    assert_eq!(json["children"][3]["retiring"], "source_changed");
    assert_eq!(json["groups"][1]["because_of"], "numpy._core");
}

#[test]
fn new_code_that_was_refused_is_said_first() {
    let server = fixture::stopped();
    let status = server.status();
    let first = &status.health.findings[0];
    assert_eq!(
        (status.health.level, first.level),
        (Level::Notice, Level::Notice)
    );
    let text = &first.text;
    assert!(
        text.starts_with("Replacing children was stopped 1 min 30 s ago, at "),
        "{text}"
    );
    assert!(
        text.ends_with(
            " UTC: the new code does not load: SyntaxError: invalid syntax (views.py, line 3). \
             The old code goes on. It was tried because /srv/shop/views.py changed."
        ),
        "{text}"
    );
    // If some children were replaced before, the text says how many. The finding is gone once the next roll begins or
    // is done.
    server.roll(RollPhase::Stopped, 2, "", [ChildState::Ready; 5]);
    let text = server.status().roll.expect("one").text;
    assert!(
        text.contains("the reason is in the error log. 2 of 5 children were replaced"),
        "{text}"
    );
    server.roll(RollPhase::Trial, 0, "", [ChildState::Ready; 5]);
    let status = server.status();
    assert_eq!(status.health.level, Level::Ok, "{:?}", status.health);
    assert!(
        status
            .roll
            .expect("one")
            .text
            .starts_with("Trying the new code")
    );
    server.roll(RollPhase::Done, 5, "", [ChildState::Ready; 5]);
    let text = server.status().roll.expect("one").text;
    let told = "Replaced 5 children in 3.2 s, 1 min 30 s ago, because /srv/shop/views.py changed.";
    assert_eq!(text, told);
    server.segment.begin_generation(3);
    assert!(
        server.status().roll.is_none(),
        "other children, another story"
    );
}

#[test]
fn a_server_that_measures_nothing_shows_its_children() {
    for geometry in [
        crate::Geometry::of_board(4),
        // Something was measured before the last restart.
        crate::Geometry::new(4, 4, 1, 1),
    ] {
        unmeasured(geometry);
    }
}

fn unmeasured(geometry: crate::Geometry) {
    let segment = crate::Segment::fresh(geometry);
    let board = segment.board();
    let said = |segment: &crate::Segment| {
        let status = Status::new(&segment.snapshot(), &segment.history());
        (status.health.level, render_text(&status, style(80)))
    };
    assert_eq!(said(&segment).0, Level::Trouble, "no child");
    let slot = board
        .enter(crate::Owner::of_this_process(0), 1)
        .expect("a place");
    slot.set_state(ChildState::Ready);
    let (level, text) = said(&segment);
    assert_eq!(level, Level::Ok, "{text}");
    assert!(
        text.starts_with("OK       Nothing is measured here: WSGIMetrics is off."),
        "{text}"
    );
    assert!(
        text.contains(&format!("{}  ready", std::process::id())),
        "{text}"
    );
    assert!(!text.contains("workers"), "{text}");
}

#[test]
fn the_block_of_server_status_has_keys() {
    let text = render_auto(&fixture::trouble().status());
    for line in text.lines() {
        let (key, value) = line.split_once(": ").expect("a key");
        assert!(key.starts_with("Wsgi") && !value.is_empty(), "{line}");
    }
    assert!(text.contains("WsgiWorkersBusy: 25\n"));
    assert!(text.contains("WsgiHealth: Trouble\n"));
}

/// Renders everything and checks that the results are well formed.
fn render_all(snapshot: &Snapshot, history: &[crate::Sample]) {
    let status = Status::new(snapshot, history);
    well_formed(&render_html(&status, Some(5)));
    well_formed(&render_html_fragment(&status));
    let json = render_json(&status);
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    let text = render_text(&status, style(80));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    let auto = render_auto(&status);
    assert!(auto.chars().all(|c| c == '\n' || !c.is_control()));
    let since = Status::since(snapshot, snapshot, history);
    well_formed(&render_html(&since, None));
}

/// Words that a broken child might write.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        Just(i64::MAX.cast_unsigned()),
        0..200u64,
        Just(u64::from_le_bytes(*b"<script>")),
        Just(u64::from_le_bytes(*b"\"'><b\x1b[2")),
        Just(u64::from_le_bytes(*b"\n\r\x00\x7f&lt;")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_scribbled_segment_does_no_harm(words in prop::collection::vec(word(), 1..64), salt: u64) {
        let mut server = fixture::calm();
        for (at, cell) in server.segment.cells().iter().enumerate() {
            let mixed = (at as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            if !mixed.is_multiple_of(4) {
                cell.store(words[mixed as usize / 4 % words.len()], Relaxed);
            }
        }
        server.sample(0);
        let history = server.segment.history();
        render_all(&server.segment.snapshot(), &history);
    }

    #[test]
    fn a_segment_of_one_word_does_no_harm(word in word()) {
        let mut server = fixture::calm();
        server.segment.cells().iter().for_each(|cell| cell.store(word, Relaxed));
        server.sample(0);
        render_all(&server.segment.snapshot(), &server.segment.history());
    }
}

/// Elements that have no end tag.
const VOID: [&str; 3] = ["meta", "br", "hr"];
/// Elements that may end themselves in SVG.
const SVG: [&str; 2] = ["path", "polyline"];
/// All elements that pages are made of.
const KNOWN: &str = "html head meta title style body header h1 h2 nav a time main section ul li span dl div dt dd meter \
    p table caption thead tbody tr th td details summary svg desc path polyline hr";

/// A small reader of HTML: every `<` begins a known tag, tags are nested, attributes are quoted, nothing is a control
/// character.
fn well_formed(page: &str) {
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()));
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap_or(page);
    while let Some(at) = rest.find(['<', '>']) {
        assert!(
            rest[at..].starts_with('<') || open.contains(&"style"),
            "stray >"
        );
        if rest[at..].starts_with('>') {
            rest = &rest[at + 1..];
            continue;
        }
        let end = at + rest[at..].find('>').expect("the end of a tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "before {rest:.60}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name = name.trim_end_matches('/');
        assert!(KNOWN.split_whitespace().any(|known| known == name), "{tag}");
        quoted(attributes.trim_end_matches('/'));
        let alone = SVG.contains(&name) && tag.ends_with('/');
        if !alone && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn quoted(mut attributes: &str) {
    while !attributes.is_empty() {
        let (name, rest) = attributes.split_once("=\"").expect("a value in quotes");
        assert!(
            name.trim_start()
                .chars()
                .all(|c| c.is_ascii_alphabetic() || c == '-'),
            "{attributes}"
        );
        let (_, rest) = rest.split_once('"').expect("the closing quote");
        assert!(rest.is_empty() || rest.starts_with(' '), "{attributes}");
        attributes = rest;
    }
}
