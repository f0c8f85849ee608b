//! The models.
//!
//! Each model begins with a segment of a few arenas, names the cells that matter, and lets two or three threads take
//! steps of the real code. The threads stand for children (the real `free_arenas_of` and `claim` end and begin them) as
//! well as for threads.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::Relaxed;

use ::loom::model::Builder;
use ::loom::sync::Arc;
use ::loom::thread;

use crate::board::GroupDecision;
use crate::catalogue::{ANSWERED, CODE, INTERPRETER_STATE, Id, OVERFLOW, cell, value};
use crate::recording::writer::Writer;
use crate::segment::Owner;
use crate::segment::entry::{Role, state};
use crate::segment::layout::{BLOCK_WORDS, Geometry};
use crate::segment::memory;
use crate::sync::AtomicU64;
use crate::{App, Event, Notable, Segment};

/// Runs `model` on a fresh segment in every possible order. `preemptions` bounds how often a thread may be stopped at a
/// place at which it need not wait, for models with too many steps for all orders.
fn try_all(
    arenas: usize,
    preemptions: Option<usize>,
    model: impl Fn(Segment) + Sync + Send + 'static,
) {
    let geometry = Geometry {
        arenas,
        applications: 1,
        series: 1,
    };
    let cells = memory::anonymous(geometry.words()).unwrap();
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        cells.iter().for_each(AtomicU64::reset);
        model(Segment::create(cells, geometry, 1).unwrap());
    });
}

/// Runs these steps in threads and returns their results. All steps of a model run in spawned threads: loom does not
/// see that a read of its first thread could happen later.
fn together<T: 'static, const N: usize>(steps: [impl FnOnce() -> T + Send + 'static; N]) -> [T; N] {
    steps
        .map(thread::spawn)
        .map(|thread| thread.join().unwrap())
}

fn watch_entries(segment: Segment, words: &[usize]) {
    for at in 1..segment.geometry().arenas {
        words
            .iter()
            .for_each(|&word| segment.entry_cells(at)[word].watch());
    }
}

/// Returns a cell of the only application in an arena.
fn block_cell(segment: Segment, arena: usize, at: usize) -> &'static AtomicU64 {
    &segment.words(segment.geometry().block(arena, 0), BLOCK_WORDS)[at]
}

fn counted(segment: Segment, at: usize) -> u64 {
    let arenas = 0..segment.geometry().arenas;
    arenas
        .map(|arena| block_cell(segment, arena, at).load(Relaxed))
        .sum()
}

/// Returns this process, which is alive.
fn living() -> Owner {
    Owner::of_this_process(0)
}

/// A process with a pid that no process has.
const DEAD: Owner = Owner {
    pid: i32::MAX as u32,
    ticks: 1,
    generation: 0,
};

const BYTES: usize = cell(Id::ResponseBody, 0);

/// Adds to a counter as the owner of the arena does. If two owners wrongly add at the same time, an addition is lost.
fn add(segment: Segment, arena: u32) {
    segment
        .arena_of(arena)
        .application(App::OTHER)
        .add(Id::ResponseBody, 0, 1);
}

#[test]
fn two_threads_that_claim_get_an_arena_each() {
    try_all(3, None, |segment| {
        watch_entries(segment, &[state::OWNER, state::TICKS]);
        let [mine, other] =
            together([1, 2].map(|thread| move || segment.claim(living(), thread, Role::Thread)));
        assert!(
            mine.is_some() && other.is_some() && mine != other,
            "{mine:?} {other:?}"
        );
    });
}

#[test]
fn no_process_takes_an_arena_that_was_just_claimed() {
    try_all(2, None, |segment| {
        // Left by a dead process.
        segment.entry_cells(1)[state::TICKS].store(DEAD.ticks, Relaxed);
        watch_entries(segment, &[state::OWNER, state::TICKS]);
        let [mine, other] =
            together([1, 2].map(|thread| move || segment.claim(living(), thread, Role::Thread)));
        assert!(mine.is_some() != other.is_some(), "{mine:?} {other:?}");
        let snapshot = segment.snapshot();
        assert_eq!(
            snapshot
                .header
                .counter(Id::MetricsOverflows, value(OVERFLOW, "arena")),
            1
        );
    });
}

#[test]
fn one_of_two_takes_the_arena_of_the_dead() {
    try_all(2, None, |segment| {
        segment.claim(DEAD, 0, Role::Ready).unwrap();
        watch_entries(segment, &[state::OWNER, state::TICKS]);
        let [mine, other] =
            together([1, 2].map(|thread| move || segment.claim(living(), thread, Role::Thread)));
        assert!(mine.is_some() != other.is_some(), "{mine:?} {other:?}");
    });
}

#[test]
fn an_arena_that_the_parent_frees_gets_one_owner() {
    try_all(2, Some(3), |segment| {
        let states = cell(Id::Interpreters, 0);
        segment.claim(DEAD, 0, Role::Ready).unwrap();
        let ready = value(INTERPRETER_STATE, "ready");
        let block = segment.arena_of(1).application(App::OTHER);
        block.change(Id::Interpreters, ready, 3);
        block.add(Id::ResponseBody, 0, 5);
        watch_entries(segment, &[state::OWNER]);
        block_cell(segment, 1, BYTES).watch();
        block_cell(segment, 1, states + ready).watch();
        let parent = thread::spawn(move || segment.free_arenas_of(DEAD.pid));
        let claim = move |thread| {
            let mine = segment.claim(living(), thread, Role::Thread);
            if let Some(arena) = mine {
                add(segment, arena);
                segment
                    .arena_of(arena)
                    .application(App::OTHER)
                    .change(Id::Interpreters, ready, 1);
            }
            mine.is_some()
        };
        let [mine, other] = together([1, 2].map(|thread| move || claim(thread)));
        let took = u64::from(other) + u64::from(mine);
        parent.join().unwrap();
        assert!(took <= 1, "both have it");
        assert_eq!(counted(segment, BYTES), 5 + took);
        assert_eq!(
            counted(segment, states + ready),
            took,
            "living interpreters"
        );
        let owner = segment.entry_cells(1)[state::OWNER].load(Relaxed);
        assert_eq!(owner != 0, took == 1, "{owner:x}");
    });
}

#[test]
fn a_thread_goes_on_from_what_the_one_before_has_counted() {
    try_all(3, Some(2), |segment| {
        let writer = Arc::new(Writer::new(segment, living()));
        watch_entries(segment, &[state::OWNER]);
        (0..3).for_each(|arena| block_cell(segment, arena, BYTES).watch());
        let live = move |writer: &Writer, thread| {
            // The two threads have one arena between them, so the other one uses the shared arena.
            let found = writer.take(thread);
            let arena = found.map_or(segment.spill(), |index| segment.arena_of(index));
            arena.application(App::OTHER).add(Id::ResponseBody, 0, 1);
            if let Some(index) = found {
                writer.leave(index);
            }
        };
        together([1, 2, 3].map(|thread| {
            let writer = Arc::clone(&writer);
            move || live(&writer, thread)
        }));
        assert_eq!(counted(segment, BYTES), 3);
    });
}

#[test]
fn a_reader_that_sees_a_request_counted_sees_its_observation() {
    try_all(2, Some(3), |segment| {
        let arena = segment.claim(living(), 1, Role::Thread).unwrap();
        let block = segment.arena_of(arena).application(App::OTHER);
        let series = value(CODE, ANSWERED.values[0]);
        block_cell(segment, 1, cell(Id::Requests, series)).watch();
        block_cell(segment, 1, cell(Id::RequestDuration, 0)).watch();
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                block.observe(Id::RequestDuration, 0, 1);
                block.finish_request(series);
            }
        });
        let reader = thread::spawn(move || {
            let mut before = 0;
            for _ in 0..2 {
                let snapshot = segment.snapshot();
                let numbers = &snapshot.applications[0].numbers;
                let requests = numbers.counter(Id::Requests, series);
                let observed = numbers.histogram(Id::RequestDuration, 0).0[0];
                assert!(
                    observed >= requests,
                    "{observed} observed, {requests} counted"
                );
                assert!(requests >= before, "went back from {before} to {requests}");
                before = requests;
            }
        });
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

/// Returns an event whose words are all the same.
fn event(number: u64) -> Event {
    Event {
        at: 0,
        why: Notable::Slow,
        app: App::OTHER,
        method: 0,
        status: 200,
        pid: 1,
        total: number,
        application: number,
        gil_wait: number,
        input: number,
        output: number,
        url: String::new(),
    }
}

#[test]
fn no_event_is_shown_that_two_have_written() {
    try_all(2, Some(2), |segment| {
        // The checksum and two of the times.
        [0, 3, 7]
            .iter()
            .for_each(|&word| segment.event_cells(0)[word].watch());
        let slow = thread::spawn(move || segment.note(&event(1), b"/1"));
        let others = thread::spawn(move || {
            // Once around the ring, so that the last event overwrites the first.
            for _ in 0..crate::segment::layout::EVENTS {
                segment.note(&event(2), b"/2");
            }
        });
        let reader = thread::spawn(move || {
            for ticket in [0, crate::segment::layout::EVENTS as u64] {
                if let Some(event) = segment.event(ticket) {
                    let url = format!("/{}", event.total);
                    assert!(event.total == event.output && event.url == url, "{event:?}");
                }
            }
        });
        reader.join().unwrap();
        slow.join().unwrap();
        others.join().unwrap();
    });
}

#[test]
fn a_running_request_is_shown_with_its_own_text() {
    try_all(2, Some(2), |segment| {
        let at = segment.claim(living(), 1, Role::Thread).unwrap();
        let arena = segment.arena_of(at);
        let before = arena.begin(1, App::OTHER, 1, b"1", b"1");
        watch_entries(segment, &[state::RUNNING_SINCE, state::RUNNING]);
        // Sequence number and URL.
        let cells = segment.words(segment.geometry().running(1), 3);
        [0, 2].iter().for_each(|&word| cells[word].watch());
        let writer = thread::spawn(move || {
            arena.end(before);
            arena.begin(2, App::OTHER, 2, b"2", b"2");
        });
        let reader = thread::spawn(move || {
            if let Some(running) = segment.running(1) {
                let is_whole = running.url == running.since.to_string()
                    && running.method as u64 == running.since;
                // Empty if it changed during every attempt.
                assert!(is_whole || running.url.is_empty(), "{running:?}");
            }
        });
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

/// Returns a group with its decision and the text of the decision watched.
fn watched_group(segment: Segment) -> crate::board::GroupSlot {
    let group = segment.board().group(b"shop").unwrap();
    let cells = segment.words(segment.geometry().group(group.number() as usize), 21);
    // The decision; length and first word of the module.
    [1, 19, 20].iter().for_each(|&word| cells[word].watch());
    group
}

#[test]
fn one_child_tries_a_group_and_no_reader_sees_the_choice_without_its_reason() {
    try_all(2, Some(3), |segment| {
        let group = watched_group(segment);
        let probe = move || {
            let mine = group.begin_probe(living());
            if mine {
                assert!(group.decide(living(), GroupDecision::Shared, "numpy"));
            } else if group.decision() == GroupDecision::Shared {
                assert_eq!(group.module(), "numpy");
            }
            mine
        };
        let [mine, other] = together([probe, probe]);
        assert!(mine != other, "{mine} {other}");
    });
}

#[test]
fn nothing_of_the_old_code_is_chosen_for_the_new() {
    try_all(2, None, |segment| {
        let group = watched_group(segment);
        assert!(group.begin_probe(living()));
        let choose = thread::spawn(move || group.decide(living(), GroupDecision::Own, "x"));
        let forget = thread::spawn(move || segment.board().raise_revision());
        let others = thread::spawn(move || group.begin_probe(DEAD));
        choose.join().unwrap();
        assert_eq!(forget.join().unwrap(), 2);
        let tried = others.join().unwrap();
        let probing = matches!(group.decision(), GroupDecision::Probing { .. });
        assert!(
            probing == tried && group.decision() != GroupDecision::Own,
            "{:?}",
            group.decision()
        );
    });
}

#[test]
fn two_children_that_take_a_choice_over_from_a_dead_one_agree() {
    try_all(2, Some(3), |segment| {
        let group = watched_group(segment);
        assert!(group.begin_probe(DEAD));
        let tried = together([(); 2].map(|()| move || group.begin_probe(living())));
        assert_eq!(
            (tried, group.decision()),
            ([false; 2], GroupDecision::Shared)
        );
    });
}

#[test]
fn a_place_on_the_board_has_one_child() {
    try_all(1, Some(3), |segment| {
        let board = segment.board();
        board.enter(DEAD, 1).unwrap();
        let place = segment.words(segment.geometry().child(0), 8);
        // Owner, start, revision and mark.
        [0, 1, 3, 5].iter().for_each(|&word| place[word].watch());
        let other = Owner {
            pid: std::os::unix::process::parent_id(),
            ticks: 0,
            generation: 0,
        };
        let enter = move |owner, revision| move || board.enter(owner, revision).is_some();
        let parent = thread::spawn(move || {
            board.mark(DEAD.pid, DEAD.ticks, crate::board::RetireReason::Api);
            board.free(DEAD.pid);
        });
        let first = thread::spawn(enter(living(), 2));
        let second = thread::spawn(enter(other, 3));
        parent.join().unwrap();
        let entered = [first.join().unwrap(), second.join().unwrap()];
        let seen = board.children();
        let told = entered.iter().filter(|entered| **entered).count();
        assert_eq!(seen.len(), told, "{seen:?}");
        assert!(
            seen.iter().all(|child| child.retire.is_none()
                && child.revision == if child.pid == other.pid { 3 } else { 2 }),
            "{seen:?}"
        );
    });
}
