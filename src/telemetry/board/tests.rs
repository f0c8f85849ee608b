//! The board among processes that live, die and overwrite it. Threads stand for processes where only pids matter.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::common::{ROLL, SILENCE};
use super::*;
use crate::clock;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::layout::{Geometry, HEADER_WORDS, RELOADS};
use crate::segment::text;

const PLACES: usize = 8;

fn segment() -> Segment {
    let geometry = Geometry {
        arenas: PLACES,
        applications: 2,
        series: 1,
    };
    Segment::fresh(geometry)
}

fn me() -> Owner {
    Owner::of_this_process(3)
}

/// Returns a process with a pid that no process has.
fn gone(number: u32) -> Owner {
    Owner {
        pid: i32::MAX as u32 - number,
        ticks: 7,
        generation: 3,
    }
}

#[test]
fn a_child_is_seen_with_what_it_says_of_itself() {
    let segment = segment();
    let board = segment.board();
    assert_eq!((board.children(), board.revision()), (Vec::new(), 1));
    let slot = board.enter(me(), 1).expect("a place");
    let child = board.children()[0];
    assert_eq!((child.pid, child.ticks), (me().pid, me().ticks));
    assert_eq!((child.generation, child.revision), (3, 1));
    assert_eq!((child.state, child.retire), (ChildState::Starting, None));
    for state in [
        ChildState::NotReady,
        ChildState::Ready,
        ChildState::Draining,
    ] {
        slot.set_state(state);
        let now = board.children()[0];
        assert!(now.state == state && now.since >= child.since, "{now:?}");
    }
    let group = board.group(b"shop").expect("room");
    slot.add_group(&group);
    assert_eq!(board.children()[0].groups, 1 << group.number());
    board.free(me().pid);
    assert_eq!(board.children(), []);
    // A child that has lost its slot records nothing and receives nothing.
    slot.set_state(ChildState::Ready);
    slot.add_group(&group);
    assert_eq!(
        (board.children(), slot.retire(), slot.revision()),
        (Vec::new(), None, None)
    );
}

#[test]
fn a_child_is_told_to_retire_once() {
    let segment = segment();
    let board = segment.board();
    let slot = board.enter(me(), 1).expect("a place");
    let Owner { pid, ticks, .. } = me();
    assert!(
        !board.mark(pid, ticks + 1, RetireReason::Api),
        "another one"
    );
    assert!(!board.mark(pid + 1, ticks, RetireReason::Api), "nobody");
    assert_eq!(slot.retire(), None);
    assert!(board.mark(pid, ticks, RetireReason::Touched));
    assert!(!board.mark(pid, ticks, RetireReason::Api), "again");
    assert_eq!(slot.retire(), Some(RetireReason::Touched));
    assert_eq!(board.children()[0].retire, slot.retire());
    // A process of the same configuration may take the mark back until the child has begun to leave.
    board.unmark_all(me().generation + 1);
    assert!(slot.retire().is_some());
    board.unmark_all(me().generation);
    assert_eq!(slot.retire(), None);
    assert!(board.mark(pid, ticks, RetireReason::Age));
    slot.set_state(ChildState::Draining);
    board.unmark_all(me().generation);
    assert_eq!(slot.retire(), Some(RetireReason::Age));
    // The mark is not that of the next child in this slot.
    board.free(pid);
    let next = board.enter(me(), 2).expect("a place");
    assert_eq!(next.retire(), None);
    for reason in RetireReason::ALL {
        assert_eq!(RetireReason::of_word(reason.word()), Some(reason));
    }
}

#[test]
fn a_mark_that_comes_too_late_is_not_the_successors() {
    let segment = segment();
    let board = segment.board();
    let late = u64::from(gone(0).pid) << 32 | RetireReason::Api.word();
    let slot = board.enter(me(), 1).expect("a place");
    // As if the marking process had been held up since before the slot changed hands.
    let cells = segment.words(segment.geometry().child(0), 8);
    let at = cells
        .iter()
        .rposition(|cell| cell.load(Relaxed) != 0)
        .expect("words")
        - 1;
    cells[at].store(late, Relaxed);
    assert_eq!(slot.retire(), None);
    assert!(board.mark(me().pid, me().ticks, RetireReason::Memory));
    assert_eq!(slot.retire(), Some(RetireReason::Memory));
}

#[test]
fn the_dead_are_not_counted_and_leave_their_places() {
    let segment = segment();
    let board = segment.board();
    for number in 0..PLACES as u32 {
        let slot = board.enter(gone(number), 1).expect("a place");
        slot.set_state(ChildState::Ready);
    }
    assert_eq!(board.children(), []);
    assert_eq!(segment.owners_gone().len(), PLACES);
    // A pid that another process has now.
    let reused = Owner {
        ticks: me().ticks + 1,
        ..me()
    };
    assert!(board.enter(reused, 1).is_some(), "that of a dead one");
    assert_eq!(board.children(), []);
    assert!(segment.owners_gone().contains(&me().pid));
    // The process that has this pid now takes the slot over.
    let slot = board.enter(me(), 4).expect("its own");
    assert_eq!((board.children().len(), slot.revision()), (1, Some(4)));
    assert_eq!(segment.owners_gone().len(), PLACES - 1);
    segment
        .owners_gone()
        .into_iter()
        .for_each(|pid| board.free(pid));
    assert_eq!(
        (segment.owners_gone().len(), board.children().len()),
        (0, 1)
    );
}

#[test]
fn where_all_places_are_taken_by_the_living_there_is_none() {
    let segment = segment();
    let board = segment.board();
    let mut sleepers: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut command = Command::new("sleep");
            command
                .arg("60")
                .stdin(Stdio::null())
                .spawn()
                .expect("sleep")
        })
        .collect();
    for sleeper in &sleepers {
        let owner = Owner {
            pid: sleeper.id(),
            ticks: 0,
            generation: 0,
        };
        assert!(board.enter(owner, 1).is_some());
    }
    assert!(board.enter(me(), 1).is_none());
    assert_eq!(board.children().len(), PLACES);
    // A process that was seen a moment ago is checked by pid only, but is still left out once it is gone.
    for sleeper in &mut sleepers {
        sleeper.kill().expect("to end it");
        sleeper.wait().expect("its end");
    }
    assert_eq!(board.children(), []);
    assert!(board.enter(me(), 1).is_some());
}

#[test]
fn requests_wait_until_the_revision_is_raised_for_them() {
    let board = segment().board();
    let ask = |group, what| board.request_reload(group, RetireReason::SourceChanged, what);
    let first = ask(None, "/srv/views.py").expect("room");
    assert_eq!(ask(None, "/srv/views.py"), Some(first), "the same again");
    let second = ask(Some("shop"), "/srv/views.py").expect("room");
    let third = ask(Some(""), "/srv/views.py").expect("room");
    assert!(first != second && second != third && first != third);
    let taken = board.take_requests();
    let groups: Vec<_> = taken
        .iter()
        .map(|request| request.group.as_deref())
        .collect();
    assert_eq!(groups, [None, Some("shop"), Some("")]);
    assert_eq!(
        (taken[0].reason, taken[0].what.as_str()),
        (RetireReason::SourceChanged, "/srv/views.py")
    );
    assert_eq!(board.take_requests(), [], "each is taken once");
    assert!(
        [first, second, third]
            .iter()
            .all(|ticket| board.is_open(*ticket))
    );
    // A request made while the others are taken is another request.
    let fourth = ask(None, "/srv/views.py").expect("room");
    assert_ne!(fourth, first);
    assert_eq!(board.raise_revision(), 2);
    assert!(
        ![first, second, third]
            .iter()
            .any(|ticket| board.is_open(*ticket))
    );
    assert!(board.is_open(fourth));
    assert_eq!(board.take_requests().len(), 1);
    board.settle_requests();
    assert!(!board.is_open(fourth));
    // A slot that is used again does not reopen an old ticket.
    let again = ask(None, "/srv/other.py").expect("room");
    assert!(board.is_open(again) && !board.is_open(first));
}

#[test]
fn there_is_room_for_a_few_requests_and_those_of_the_dead_are_taken_over() {
    let segment = segment();
    let board = segment.board();
    let ask = |number: usize| board.request_reload(None, RetireReason::Api, &number.to_string());
    assert!((0..RELOADS).all(|number| ask(number).is_some()));
    assert_eq!(ask(RELOADS), None);
    assert!(ask(0).is_some(), "it waits already");
    let state = |at| &segment.words(segment.geometry().reload(at), 1)[0];
    // A dead reloader had taken two requests, and another process died while writing a third.
    let dead = u64::from(gone(0).pid) << 2;
    for at in [0, 1] {
        state(at).store(dead | 3, Relaxed);
    }
    state(2).store(dead | 1, Relaxed);
    assert!(ask(RELOADS).is_some());
    assert_eq!(board.take_requests().len(), RELOADS);
    board.raise_revision();
    assert!((0..RELOADS).all(|number| ask(number).is_some()));
}

#[test]
fn long_texts_are_cut_and_no_text_carries_anything_but_characters() {
    let board = segment().board();
    let long = "/srv/\u{e9}\"\x1b[2J\n".repeat(200);
    board
        .request_reload(Some(&long), RetireReason::Api, &long)
        .expect("room");
    board.set_roll(&Roll {
        phase: RollPhase::Stopped,
        cause: long.clone(),
        problem: long.clone(),
        ..Roll::default()
    });
    let request = &board.take_requests()[0];
    let roll = board.roll();
    let group = request.group.as_deref().expect("one");
    for (text, most) in [
        (group, 128),
        (&request.what, 320),
        (&roll.cause, 320),
        (&roll.problem, 624),
    ] {
        assert_eq!(text.len(), most);
        assert!(
            text.bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"')
        );
    }
    assert!(board.group(long.as_bytes()).is_some());
    let other = format!("{long}x");
    let numbers =
        [long.as_bytes(), other.as_bytes()].map(|name| board.group(name).expect("room").number());
    assert_ne!(numbers[0], numbers[1], "they differ where neither is kept");
}

#[test]
fn how_a_roll_goes_is_read_back_whole() {
    let segment = segment();
    let board = segment.board();
    assert_eq!(board.roll(), Roll::default());
    let mut roll = Roll {
        phase: RollPhase::Trial,
        revision: 2,
        done: 0,
        of: 4,
        tried: 2,
        untried: 0,
        began: 5,
        ended: 0,
        cause: String::from("/srv/views.py changed"),
        problem: String::new(),
    };
    for done in 0..9 {
        roll.done = done;
        roll.phase = if done == 8 {
            RollPhase::Done
        } else {
            RollPhase::Rolling
        };
        board.set_roll(&roll);
        assert_eq!(board.roll(), roll);
    }
    // A reloader that dies while it writes the next state leaves this one readable.
    let number = board.cells()[ROLL].load(Relaxed) + 1;
    let next = segment.geometry().roll((number % 2) as usize);
    segment
        .words(next, 128)
        .iter()
        .for_each(|cell| cell.store(1, Relaxed));
    assert_eq!(board.roll(), roll);
    // A copy that is written during the read is rejected. That takes a reloader that is twice as fast as the reader.
    let this = segment.geometry().roll(((number - 1) % 2) as usize);
    // Checksum, numbers, and the beginnings of both texts.
    for word in [0, 1, 2, 3, 4, 5, 6, 8, 9, 49] {
        let cell = &segment.words(this, 128)[word];
        let whole = cell.swap(9, Relaxed);
        assert_eq!(board.roll(), Roll::default());
        cell.store(whole, Relaxed);
    }
    assert_eq!(board.roll(), roll);
}

#[test]
fn a_reader_never_sees_half_a_roll() {
    let board = segment().board();
    let done = AtomicBool::new(false);
    let roll = |number: u32| Roll {
        phase: RollPhase::Rolling,
        revision: number.into(),
        done: number,
        of: number,
        tried: 2,
        untried: 0,
        began: number.into(),
        ended: number.into(),
        cause: number.to_string().repeat(number as usize % 7),
        problem: number.to_string(),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..).take_while(|_| !done.load(Relaxed)) {
                board.set_roll(&roll(number));
            }
        });
        let mut seen = BTreeSet::new();
        let end = Instant::now() + Duration::from_secs(20);
        while seen.len() < 200 && Instant::now() < end {
            let read = board.roll();
            if read != Roll::default() {
                assert_eq!(read, roll(read.done));
                seen.insert(read.done);
            }
        }
        done.store(true, Relaxed);
        assert_eq!(seen.len(), 200);
    });
}

#[test]
fn one_tries_out_what_the_others_go_by() {
    let board = segment().board();
    let group = board.group(b"shop").expect("room");
    assert_eq!(
        (group.decision(), group.module()),
        (GroupDecision::Unknown, String::new())
    );
    assert!(group.begin_probe(me()));
    let GroupDecision::Probing { pid, .. } = group.decision() else {
        panic!("{:?}", group.decision());
    };
    assert_eq!(pid, me().pid);
    assert!(!group.begin_probe(me()), "it is being tried out");
    assert!(
        !group.decide(gone(0), GroupDecision::Own, ""),
        "by another one"
    );
    assert!(group.decide(me(), GroupDecision::Shared, "numpy.core"));
    assert_eq!(
        (group.decision(), group.module()),
        (GroupDecision::Shared, "numpy.core".into())
    );
    assert!(!group.begin_probe(me()) && !group.decide(me(), GroupDecision::Own, ""));
    let main = board.group(b"").expect("room");
    assert!(main.begin_probe(me()) && main.decide(me(), GroupDecision::Own, ""));
    let mut entries = board.groups();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.decision))
        .collect();
    assert_eq!(
        seen,
        [("", GroupDecision::Own), ("shop", GroupDecision::Shared)]
    );
}

#[test]
fn choices_are_forgotten_with_the_code_that_they_were_about() {
    let segment = segment();
    let board = segment.board();
    let group = board.group(b"shop").expect("room");
    let forget: [&dyn Fn(); 2] = [&|| segment.begin_generation(9), &|| {
        board.raise_revision();
    }];
    for forget in forget {
        assert!(group.begin_probe(me()) && group.decide(me(), GroupDecision::Shared, "lxml"));
        forget();
        assert_eq!(
            (group.decision(), group.module()),
            (GroupDecision::Unknown, String::new())
        );
        assert!(group.begin_probe(me()));
        forget();
        assert!(
            !group.decide(me(), GroupDecision::Own, ""),
            "that was about the old code"
        );
        assert_eq!(group.decision(), GroupDecision::Unknown);
    }
}

#[test]
fn plans_and_warnings_are_those_of_the_configuration() {
    let segment = segment();
    let board = segment.board();
    let shop = board.group(b"shop").expect("room");
    shop.set_plan("direct, 1 thread inside");
    assert!(shop.begin_probe(me()) && shop.decide(me(), GroupDecision::Shared, "lxml"));
    board.raise_revision();
    let entry = board.groups().pop().expect("one");
    assert_eq!(
        (entry.plan.as_str(), entry.decision),
        ("direct, 1 thread inside", GroupDecision::Unknown),
        "new code changes nothing"
    );
    assert!(board.warn_once(Warning::Memory));
    assert!(!board.warn_once(Warning::Memory));
    segment.begin_generation(9);
    let entry = board.groups().pop().expect("one");
    assert_eq!(entry.plan, "");
    assert!(board.warn_once(Warning::Memory));
    // Longer than there is room for.
    shop.set_plan(&"x".repeat(1000));
    assert_eq!(board.groups().pop().expect("one").plan.len(), 144);
}

#[test]
fn what_its_prober_did_not_survive_is_shared() {
    let board = segment().board();
    let group = board.group(b"shop").expect("room");
    assert!(group.begin_probe(gone(0)));
    assert!(!group.begin_probe(me()));
    assert_eq!(group.decision(), GroupDecision::Shared);
    assert_eq!(group.module(), "the process that tried it out died");
    // A pid that another process has now.
    let other = board.group(b"other").expect("room");
    assert!(other.begin_probe(Owner {
        ticks: me().ticks + 1,
        ..me()
    }));
    assert!(!other.begin_probe(me()));
    assert_eq!(other.decision(), GroupDecision::Shared);
}

#[test]
fn many_children_agree_on_groups_and_on_the_child_that_tries_them() {
    for round in 0..200 {
        let board = segment().board();
        let (start, probers) = (Barrier::new(4), AtomicUsize::new(0));
        let names: Vec<String> = (0..20).map(|name| format!("{round}-{name}")).collect();
        let numbers = |_| {
            let find = |name: &String| {
                let group = board.group(name.as_bytes()).expect("room");
                probers.fetch_add(group.begin_probe(me()).into(), Relaxed);
                group.number()
            };
            start.wait();
            names.iter().map(find).collect::<Vec<_>>()
        };
        let found = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|at| scope.spawn(move || numbers(at))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("its end"))
                .collect::<Vec<_>>()
        });
        assert!(found.iter().all(|numbers| numbers == &found[0]));
        assert_eq!(found[0].iter().collect::<BTreeSet<_>>().len(), 20);
        assert_eq!((probers.load(Relaxed), board.groups().len()), (20, 20));
    }
}

#[test]
fn a_full_table_has_no_room_for_more_groups() {
    let board = segment().board();
    for name in 0..64 {
        assert!(board.group(format!("{name}").as_bytes()).is_some());
    }
    assert!(board.group(b"one more").is_none());
    assert!(board.group(b"63").is_some());
}

#[test]
fn places_are_given_out_once_while_children_come_and_go() {
    let board = segment().board();
    let start = Barrier::new(4);
    let inside = AtomicUsize::new(0);
    let live = |thread: u32| {
        start.wait();
        for turn in 0..5_000 {
            // No process is alive here, so slots are also taken from each other.
            let owner = Owner {
                pid: 1_000_000_000 + thread,
                ticks: 1,
                generation: 0,
            };
            let Some(slot) = board.enter(owner, turn) else {
                continue;
            };
            inside.fetch_add(1, Relaxed);
            slot.set_state(ChildState::Ready);
            board.mark(owner.pid, owner.ticks, RetireReason::Age);
            let told = (slot.revision(), slot.retire());
            assert!(
                told == (Some(turn), Some(RetireReason::Age)) || slot.revision().is_none(),
                "{told:?}"
            );
            board.free(owner.pid);
            assert_eq!(slot.retire(), None);
        }
    };
    thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || live(thread)))));
    assert!(inside.into_inner() > 5_000);
    assert_eq!(board.owners().count(), 0);
}

#[test]
fn the_reloader_is_there_as_long_as_it_says_so() {
    let board = segment().board();
    assert_eq!(board.reloader(), None);
    let now = clock::now();
    board.beat(now);
    assert_eq!(board.reloader(), Some(now));
    for lie in [
        0,
        1,
        now.saturating_sub(SILENCE),
        now + 2 * SILENCE,
        u64::MAX,
    ] {
        board.beat(lie);
        assert_eq!(board.reloader(), None, "{lie}");
    }
}

#[test]
fn a_server_that_records_nothing_has_its_board() {
    let geometry = Geometry::of_board(16);
    assert!(!geometry.records() && Geometry::new(400, 16, 0, 16).records());
    let board = Segment::fresh(geometry).board();
    let slot = board.enter(me(), board.revision()).expect("a place");
    slot.set_state(ChildState::Ready);
    assert_eq!(board.children().len(), 1);
    // Room for as many children that end as begin.
    assert!(board.places() >= 32, "{}", board.places());
    assert!(geometry.bytes() < 500_000, "{}", geometry.bytes());
}

/// Prints how long it takes: `cargo test --release -p wsgi-telemetry --lib to_look_at -- --ignored --nocapture`.
#[test]
#[ignore = "prints how long it takes"]
fn to_look_at_all_children_takes_little() {
    let board = segment().board();
    board.enter(me(), 1).expect("a place");
    let begun = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(board.children().len(), 1);
    }
    let with_one = begun.elapsed() / 10_000;
    let large = Segment::fresh(Geometry::new(400, 16, 8, 64)).board();
    let begun = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(large.children(), []);
    }
    let places = large.places();
    println!(
        "a child: {with_one:?}; {places} empty places: {:?}",
        begun.elapsed() / 10_000
    );
}

/// Words that a broken child might write: random ones, and almost valid ones.
fn word() -> impl Strategy<Value = u64> {
    let pid = std::process::id();
    prop_oneof![
        any::<u64>(),
        0..16u64,
        Just(u64::from(pid) << 32),
        (0..16u64).prop_map(move |low| u64::from(pid) << 32 | low),
        (0..4u64).prop_map(move |low| u64::from(pid) << 2 | low),
        Just(u64::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_scribbled_board_does_no_harm(words in prop::collection::vec(word(), 1..48), salt: u64) {
        let segment = segment();
        let geometry = segment.geometry();
        let board = segment.board();
        let mut hash = salt | 1;
        let tables = [
            HEADER_WORDS..geometry.event(0),
            geometry.child(0)..geometry.child(PLACES),
        ];
        for cell in tables.into_iter().flat_map(|table| segment.words(table.start, table.len())) {
            hash = hash.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            cell.store(words[(hash >> 33) as usize % words.len()], Relaxed);
        }
        let children = board.children();
        prop_assert!(children.len() <= PLACES);
        for child in children {
            board.mark(child.pid, child.ticks, RetireReason::Api);
        }
        prop_assert!(board.owners().count() <= PLACES);
        prop_assert!(segment.owners_gone().len() <= PLACES);
        let roll = board.roll();
        prop_assert!(roll.cause.len() <= 320 && roll.problem.len() <= 624);
        prop_assert!(board.take_requests().len() <= RELOADS);
        for group in board.groups() {
            let printable = |text: &str| text == text::shown(text.as_bytes());
            prop_assert!(printable(&group.name) && printable(&group.module));
        }
        let _ = (board.reloader(), board.revision());
        if let Some(group) = board.group(b"shop") {
            let _ = (group.begin_probe(me()), group.decide(me(), GroupDecision::Own, "x"));
        }
        // The board works again once the parent has cleaned up.
        board.raise_revision();
        for at in 0..PLACES {
            let owner = segment.words(geometry.child(at), 1)[0].load(Relaxed);
            board.free((owner >> 32) as u32);
        }
        let slot = board.enter(me(), 5);
        prop_assert!(slot.is_some());
        prop_assert_eq!(board.children().len(), 1);
        board.set_roll(&Roll { revision: 5, ..Roll::default() });
        prop_assert_eq!(board.roll().revision, 5);
        if let Some(group) = board.group(b"shop") {
            prop_assert_eq!(group.decision(), GroupDecision::Unknown);
            prop_assert!(group.begin_probe(me()));
        }
    }

    #[test]
    fn choices_keep_the_child_that_tries_them(pid in 1..u32::MAX, ticks: u64) {
        let board = segment().board();
        let group = board.group(b"x").expect("room");
        let owner = Owner { pid, ticks, generation: 0 };
        prop_assert!(group.begin_probe(owner));
        let kept = GroupDecision::Probing { pid, ticks: ticks % (1 << 30) };
        prop_assert_eq!(group.decision(), kept);
        prop_assert!(group.decide(owner, GroupDecision::Own, ""));
    }
}

#[test]
fn a_request_is_about_a_group_as_the_board_can_say_it() {
    let segment = segment();
    let board = segment.board();
    let long = "x".repeat(500);
    for name in ["caf\u{e9}\"\\", &long, "", "shop"] {
        let ticket = board.request_reload(Some(name), RetireReason::Api, "test");
        assert!(ticket.is_some());
        let requests = board.take_requests();
        assert!(requests[0].is_about(name.as_bytes()), "{requests:?}");
        assert!(!requests[0].is_about(b"another"));
        board.settle_requests();
    }
    let all = ReloadRequest {
        group: None,
        reason: RetireReason::Api,
        what: String::new(),
    };
    assert!(all.is_about(b"anything"));
}

#[test]
fn a_choice_for_own_gils_gives_way_and_a_probe_that_is_given_up_is_made_again() {
    let segment = segment();
    let board = segment.board();
    let group = board.group(b"shop").expect("room");
    assert!(group.begin_probe(me()) && group.decide(me(), GroupDecision::Own, ""));
    assert!(!group.decide(me(), GroupDecision::Own, ""));
    assert!(group.decide(me(), GroupDecision::Shared, "numpy"));
    assert_eq!(
        (group.decision(), group.module()),
        (GroupDecision::Shared, String::from("numpy"))
    );
    assert!(!group.decide(me(), GroupDecision::Own, ""), "never back");
    let (given_up, other) = (
        board.group(b"blog").expect("room"),
        board.group(b"forum").expect("room"),
    );
    assert!(given_up.begin_probe(gone(0)) && other.begin_probe(me()));
    board.abandon_probes(gone(0).pid);
    assert_eq!(given_up.decision(), GroupDecision::Unknown);
    assert!(given_up.begin_probe(me()));
    assert!(matches!(other.decision(), GroupDecision::Probing { .. }));
}
