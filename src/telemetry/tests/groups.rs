//! Process groups: what their processes count in segments of their own is shown with the numbers of the server.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::Ordering::Relaxed;

use support::{promtool_is_silent, segment};
use wsgi_telemetry::catalogue::{EXIT, Id, RECYCLE_REASON, value};
use wsgi_telemetry::{
    Aggregate, Arena, CustomKind, CustomValue, Description, Format, Geometry, GroupSegment, Owner,
    Part, Phase, Role, Segment, memory, render,
};

const ROOM: Geometry = Geometry {
    arenas: 8,
    applications: 4,
    series: 64,
};

/// Returns the lines of a page about these families.
fn lines(page: &str, names: &[&str]) -> Vec<String> {
    let is_of = |line: &&str| names.iter().any(|name| line.starts_with(name));
    page.lines().filter(is_of).map(str::to_owned).collect()
}

fn page(server: Segment, groups: &[GroupSegment]) -> String {
    let mut page = String::new();
    render(&server.snapshot_with(groups), Format::Text, &mut page);
    page
}

#[test]
fn numbers_of_groups() {
    let (server, group) = (segment(ROOM), segment(ROOM));
    let me = Owner::of_this_process(0);
    let app = server.application_named("/shop", ["/shop", "/srv/shop.wsgi", ""], me);
    let of_server = server.arena_of(server.claim(me, 0, Role::Ready).unwrap());
    let of_group = group.process_arena_of(group.claim(me, 0, Role::Ready).unwrap());
    of_server.application(app).finish_request(1);
    for (arena, nanoseconds) in [(&of_server, 1_000), (&of_group, 2_000)] {
        arena
            .application(app)
            .observe(Id::ApplicationDuration, 0, nanoseconds);
    }
    of_group.add(Id::ChildrenCpu, 0, 1_500_000_000);
    group.count(Id::ChildrenStarted, 0, 2);
    group.count(Id::ChildrenExited, value(EXIT, "killed"), 1);
    group.count(Id::ChildrenRecycles, value(RECYCLE_REASON, "cpu_time"), 1);
    let groups = [GroupSegment {
        name: "the \"site\"".into(),
        segment: group,
    }];
    let page = page(server, &groups);
    promtool_is_silent(&page);
    // The application is one, wherever it runs.
    assert_eq!(
        lines(
            &page,
            &[
                "wsgi_application_duration_seconds_sum",
                "wsgi_application_duration_seconds_count"
            ]
        ),
        [
            "wsgi_application_duration_seconds_sum{app=\"/shop\"} 0.000003",
            "wsgi_application_duration_seconds_count{app=\"/shop\"} 2"
        ]
    );
    let requests = lines(
        &page,
        &["wsgi_requests_total{app=\"/shop\",method=\"GET\",code=\"2xx\"}"],
    );
    assert_eq!(
        requests,
        ["wsgi_requests_total{app=\"/shop\",method=\"GET\",code=\"2xx\"} 1"]
    );
    // Its processes are those of the group.
    for (series, number) in [
        ("wsgi_children{state=\"ready\"}", "1"),
        (
            "wsgi_children{process_group=\"the \\\"site\\\"\",state=\"ready\"}",
            "1",
        ),
        ("wsgi_children_started_total", "0"),
        (
            "wsgi_children_started_total{process_group=\"the \\\"site\\\"\"}",
            "2",
        ),
        ("wsgi_children_exited_total{how=\"killed\"}", "0"),
        (
            "wsgi_children_exited_total{process_group=\"the \\\"site\\\"\",how=\"killed\"}",
            "1",
        ),
        (
            "wsgi_children_recycles_total{process_group=\"the \\\"site\\\"\",reason=\"cpu_time\"}",
            "1",
        ),
        ("wsgi_children_cpu_seconds_total{mode=\"user\"}", "0"),
        (
            "wsgi_children_cpu_seconds_total{process_group=\"the \\\"site\\\"\",mode=\"user\"}",
            "1.5",
        ),
    ] {
        let line = format!("{series} {number}");
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn an_application_that_only_a_group_knows_is_not_shown() {
    let (server, group) = (segment(ROOM), segment(ROOM));
    let me = Owner::of_this_process(0);
    let of_group = group.arena_of(group.claim(me, 0, Role::Ready).unwrap());
    // A group may have counted for an application that the server has freed, or may lie.
    let app = wsgi_telemetry::App::new(3);
    of_group.application(app).finish_request(1);
    let groups = [GroupSegment {
        name: "site".into(),
        segment: group,
    }];
    assert!(!page(server, &groups).contains("wsgi_requests_total"));
    group.forget_application(app);
    let snapshot = group.snapshot();
    assert!(
        snapshot
            .applications
            .iter()
            .all(|known| known.numbers.counter(Id::Requests, 1) == 0)
    );
}

#[test]
fn metrics_of_applications_are_added_up() {
    let (server, group) = (segment(ROOM), segment(ROOM));
    let me = Owner::of_this_process(0);
    let bounds = vec![1.0, 2.0];
    let description = |name: &str, kind| Description {
        name: name.into(),
        kind,
        labels: vec!["kind".into()],
        help: "Help.".into(),
    };
    for (of, jobs, depth, seconds) in [(server, 2.0, 5.0, 0.5), (group, 3.0, 7.0, 1.5)] {
        let arena = of.process_arena_of(of.claim(me, 0, Role::Ready).unwrap());
        let counter = of
            .custom_family(&description("jobs", CustomKind::Counter), me)
            .unwrap();
        let gauge = CustomKind::Gauge(Aggregate::Max);
        let gauge = of.custom_family(&description("depth", gauge), me).unwrap();
        let histogram = CustomKind::Histogram(bounds.clone());
        let histogram = of
            .custom_family(&description("took", histogram), me)
            .unwrap();
        let series = |family| of.custom_series(family, Part::Value, &["a"], me).unwrap();
        arena.series_add(series(counter), jobs);
        arena.series_set(series(gauge), depth);
        of.custom_histogram(histogram, &["a"], me)
            .unwrap()
            .observe_in(&arena, seconds);
    }
    // Only the group has this one.
    let only = description("only", CustomKind::Counter);
    let only = group.custom_family(&only, me).unwrap();
    let only = group.custom_series(only, Part::Value, &["b"], me).unwrap();
    group.process_arena_of(1).series_add(only, 1.0);
    let groups = [GroupSegment {
        name: "site".into(),
        segment: group,
    }];
    let custom = server.snapshot_with(&groups).custom;
    let found: Vec<_> = custom
        .families
        .iter()
        .map(|family| {
            (
                family.description.name.as_str(),
                family.series[0].value.clone(),
            )
        })
        .collect();
    let histogram = CustomValue::Histogram {
        buckets: vec![(1.0, 1.0), (2.0, 1.0)],
        above: 0.0,
        sum: 2.0,
    };
    let number = CustomValue::Number;
    assert_eq!(
        found,
        [
            ("depth", number(7.0)),
            ("jobs", number(5.0)),
            ("only", number(1.0)),
            ("took", histogram)
        ]
    );
}

#[test]
fn memory_that_was_left_is_shared_no_more() {
    let (memory, ours) = memory::sealed("test", 512).unwrap();
    let theirs = memory::file(&memory, 512, true).unwrap();
    ours[7].store(1, Relaxed);
    assert_eq!(theirs[7].load(Relaxed), 1);
    memory::leave(ours).unwrap();
    assert_eq!(ours[7].load(Relaxed), 0);
    ours[7].store(2, Relaxed);
    assert_eq!(theirs[7].load(Relaxed), 1);
}

#[test]
fn a_request_in_a_group_is_shown_once_with_what_it_does_there() {
    let (server, group, other) = (segment(ROOM), segment(ROOM), segment(ROOM));
    let me = Owner::of_this_process(0);
    let app = server.application_named("/shop", ["/shop", "/srv/shop.wsgi", ""], me);
    let claim = |segment: Segment, thread| {
        let at = segment.claim(me, thread, Role::Thread).unwrap();
        segment.arena_of(at)
    };
    let begin = |arena: &Arena, since| {
        arena.begin(since, app, 0, b"/shop/cart", b"");
        arena.phase_cell().unwrap()
    };
    let groups = [("site", group), ("other", other)].map(|(name, segment)| GroupSegment {
        name: name.into(),
        segment,
    });
    let shown = || {
        let running = server.snapshot_with(&groups).running.into_iter();
        running
            .map(|request| {
                (
                    request.since,
                    request.process_group,
                    request.thread,
                    request.phase,
                )
            })
            .collect::<Vec<_>>()
    };
    let child = claim(server, 1);
    let cell = begin(&child, 10);
    cell.pass_to("site");
    let site = String::from("site");
    assert_eq!(
        shown(),
        [(10, site.clone(), 1, Phase::WaitingForGroup)],
        "no process has it"
    );
    let process = claim(group, 2);
    begin(&process, 10).set(Phase::InApplication);
    assert_eq!(shown(), [(10, site.clone(), 2, Phase::InApplication)]);
    // The child writes what the process has sent.
    cell.set(Phase::Writing);
    assert_eq!(shown(), [(10, site.clone(), 2, Phase::Writing)]);
    cell.set(Phase::WaitingForGroup);
    // Another group cannot change it, whatever its processes write.
    let hostile = claim(other, 3);
    begin(&hostile, 10).set(Phase::Loading);
    assert_eq!(
        shown(),
        [
            (10, site.clone(), 2, Phase::InApplication),
            (10, String::from("other"), 3, Phase::Loading)
        ]
    );
    hostile.end(None);
    // The child was killed; the process still runs its request.
    child.end(None);
    assert_eq!(shown(), [(10, site, 2, Phase::InApplication)]);
    process.end(None);
    assert_eq!(shown(), []);
}
