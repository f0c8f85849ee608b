use proptest::prelude::*;

use super::*;

const WINDOWS: Windows = Windows {
    startup: Some(Duration::from_secs(60)),
    drain: Duration::from_secs(15),
    eviction: Duration::from_secs(3),
    shutdown: Duration::from_secs(5),
    shortest: Some(Duration::from_secs(2)),
};

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn slot() -> Slot<u32> {
    Slot::new(WINDOWS, false)
}

/// Returns a slot whose process 1 serves since second 0.
fn serving() -> Slot<u32> {
    let mut slot = slot();
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    assert_eq!(slot.next(at(0.0)), None);
    slot.started(1, at(0.0));
    assert_eq!(slot.next(at(0.0)), None);
    slot.ready(1, at(0.0));
    assert_eq!(slot.next(at(0.0)), Some(Action::Serve(1)));
    assert_eq!(slot.next(at(0.0)), None);
    assert_eq!(slot.serving(), Some(1));
    slot
}

#[test]
fn the_successor_comes_first() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(10.0)), Some(Action::Start));
    slot.started(2, at(10.0));
    assert_eq!(slot.next(at(11.0)), None);
    assert_eq!(slot.serving(), Some(1));
    slot.ready(2, at(12.0));
    assert_eq!(slot.next(at(12.0)), Some(Action::Drain(1)));
    // Nobody takes requests until the old process has stopped doing so.
    assert_eq!((slot.next(at(12.1)), slot.serving()), (None, None));
    slot.confirmed(1, at(12.2));
    assert_eq!(slot.next(at(12.2)), Some(Action::Serve(2)));
    assert_eq!(slot.next(at(27.1)), None);
    assert_eq!(slot.due(), Some(at(27.2)));
    assert_eq!(slot.next(at(27.2)), Some(Action::Stop(1)));
    assert_eq!(slot.next(at(32.1)), None);
    assert_eq!(slot.next(at(32.2)), Some(Action::Kill(1)));
    assert_eq!(slot.ended(1, at(32.3), 0.5), Some(Part::Stopped));
    assert_eq!((slot.next(at(40.0)), slot.serving()), (None, Some(2)));
}

#[test]
fn an_old_process_that_does_not_confirm_is_asked_to_end() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    slot.ready(2, at(2.0));
    assert_eq!(slot.next(at(2.0)), Some(Action::Drain(1)));
    assert_eq!(slot.next(at(7.0)), Some(Action::Stop(1)));
    assert_eq!(slot.next(at(7.0)), Some(Action::Serve(2)));
}

#[test]
fn a_successor_that_fails_leaves_the_old_process() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(5.0)), Some(Action::Start));
    slot.started(2, at(5.0));
    assert_eq!(slot.ended(2, at(6.0), 0.5), Some(Part::Starting));
    assert_eq!((slot.next(at(6.4)), slot.serving()), (None, Some(1)));
    assert_eq!(slot.due(), Some(at(6.5)));
    // Another one is tried, after pauses that grow.
    assert_eq!(slot.next(at(6.5)), Some(Action::Start));
    slot.failed_to_start(at(6.5), 0.5);
    assert_eq!(slot.next(at(7.4)), None);
    assert_eq!(slot.next(at(7.5)), Some(Action::Start));
}

#[test]
fn a_crash_is_answered_at_once() {
    let mut slot = serving();
    assert_eq!(slot.ended(1, at(100.0), 0.5), Some(Part::Serving));
    assert_eq!(slot.next(at(100.0)), Some(Action::Start));
}

#[test]
fn crashes_at_the_start_are_answered_after_growing_pauses() {
    let mut slot = slot();
    let mut now = at(0.0);
    let mut pauses = Vec::new();
    for id in 0..9 {
        assert_eq!(slot.next(now), Some(Action::Start));
        slot.started(id, now);
        slot.ended(id, now, 0.5);
        let next = slot.due().expect("another start");
        pauses.push((next - now).as_secs_f64());
        now = next;
    }
    assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    // So are processes that serve for a moment only.
    let serves_for = |slot: &mut Slot<u32>, id, now: Duration, time| {
        assert_eq!(slot.next(now), Some(Action::Start));
        slot.started(id, now);
        slot.ready(id, now);
        assert_eq!(slot.next(now), Some(Action::Serve(id)));
        slot.ended(id, now + time, 0.5);
        slot.due().expect("another start")
    };
    let next = serves_for(&mut slot, 20, now, at(1.0));
    assert_eq!(next, now + at(31.0));
    // One that has served for longer begins anew.
    let now = next;
    serves_for(&mut slot, 21, now, at(2.0));
    let next = serves_for(&mut slot, 22, now + at(2.0), at(1.0));
    assert_eq!(next, now + at(3.5));
}

#[test]
fn pauses_vary_by_a_fifth() {
    for (jitter, pause) in [(0.0, 0.4), (0.5, 0.5), (1.0, 0.6), (7.0, 0.6)] {
        let mut slot = slot();
        assert_eq!(slot.next(at(0.0)), Some(Action::Start));
        slot.failed_to_start(at(0.0), jitter);
        assert_eq!(slot.due(), Some(at(pause)));
    }
}

#[test]
fn a_start_that_takes_too_long_is_ended() {
    let mut slot = slot();
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    slot.started(1, at(0.0));
    assert_eq!(slot.next(at(59.0)), None);
    assert_eq!(slot.due(), Some(at(60.0)));
    assert_eq!(slot.next(at(60.0)), Some(Action::GiveUp(1)));
    assert_eq!((slot.next(at(60.0)), slot.due()), (None, Some(at(60.5))));
    assert_eq!(slot.ended(1, at(60.2), 0.5), Some(Part::Starting));
    assert_eq!((slot.next(at(60.4)), slot.due()), (None, Some(at(60.5))));
}

#[test]
fn each_step_of_a_start_has_the_whole_window() {
    let mut slot = slot();
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    slot.started(1, at(0.0));
    slot.steps(1, at(50.0));
    assert_eq!((slot.next(at(109.0)), slot.due()), (None, Some(at(110.0))));
    assert_eq!(slot.next(at(110.0)), Some(Action::GiveUp(1)));
    slot.steps(1, at(111.0));
    assert_eq!((slot.next(at(110.4)), slot.due()), (None, Some(at(110.5))));
}

#[test]
fn only_the_process_that_serves_asks_and_once() {
    let mut slot = serving();
    slot.replace(7);
    assert_eq!(slot.next(at(1.0)), None);
    slot.replace(1);
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    slot.replace(1);
    slot.replace(2);
    slot.ready(2, at(2.0));
    assert_eq!(slot.next(at(2.0)), Some(Action::Drain(1)));
    slot.replace(1);
    slot.confirmed(1, at(2.0));
    assert_eq!(slot.next(at(2.0)), Some(Action::Serve(2)));
    slot.replace(1);
    assert_eq!(slot.next(at(3.0)), None);
    slot.replace(2);
    assert_eq!(slot.next(at(4.0)), Some(Action::Start));
    // The successor fails, and another one is tried although nobody asks again.
    slot.started(3, at(4.0));
    assert_eq!(slot.ended(3, at(5.0), 0.5), Some(Part::Starting));
    assert_eq!(slot.next(at(5.5)), Some(Action::Start));
}

#[test]
fn new_code_supersedes_the_process_that_starts() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    assert!(slot.renew_for(1));
    assert_eq!(slot.next(at(2.0)), Some(Action::Stop(2)));
    assert_eq!(slot.next(at(2.0)), Some(Action::Start));
    slot.started(3, at(2.0));
    // The superseded one is killed if it hangs, and its end is no failure.
    assert_eq!(slot.next(at(7.0)), Some(Action::Kill(2)));
    assert_eq!(slot.ended(2, at(7.0), 0.5), Some(Part::Stopped));
    assert!(!slot.renew_for(2));
    slot.ready(3, at(8.0));
    assert_eq!(slot.next(at(8.0)), Some(Action::Drain(1)));
    // One that is about to serve does so first.
    slot.renew();
    assert_eq!(slot.next(at(8.0)), None);
    slot.confirmed(1, at(8.1));
    assert!(!slot.renew_for(1));
    assert_eq!(slot.next(at(8.1)), Some(Action::Serve(3)));
    assert_eq!(slot.next(at(8.1)), Some(Action::Start));
}

#[test]
fn a_first_process_is_superseded_too_and_a_pause_ends() {
    let mut slot = slot();
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    slot.started(1, at(0.0));
    slot.renew();
    assert_eq!(slot.next(at(1.0)), Some(Action::Stop(1)));
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    assert_eq!(slot.ended(2, at(1.0), 0.5), Some(Part::Starting));
    assert_eq!((slot.next(at(1.1)), slot.due()), (None, Some(at(1.5))));
    slot.renew();
    assert_eq!(slot.next(at(1.1)), Some(Action::Start));
}

#[test]
fn an_evicted_process_has_its_own_window() {
    let mut slot = serving();
    slot.evict(1);
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    slot.ready(2, at(2.0));
    assert_eq!(slot.next(at(2.0)), Some(Action::Drain(1)));
    slot.confirmed(1, at(2.0));
    assert_eq!(slot.next(at(2.0)), Some(Action::Serve(2)));
    assert_eq!((slot.next(at(4.9)), slot.due()), (None, Some(at(5.0))));
    assert_eq!(slot.next(at(5.0)), Some(Action::Stop(1)));
}

#[test]
fn requests_wait_in_vain_after_the_second_failure() {
    let mut slot = slot();
    let fail = |slot: &mut Slot<u32>, id, now| {
        assert_eq!(slot.next(now), Some(Action::Start));
        assert!(!slot.is_down());
        slot.started(id, now);
        assert!(!slot.is_down());
        slot.ended(id, now, 0.5);
        slot.due().expect("another start")
    };
    assert!(!slot.is_down());
    let next = fail(&mut slot, 1, at(0.0));
    assert!(!slot.is_down());
    let next = fail(&mut slot, 2, next);
    assert!(slot.is_down());
    fail(&mut slot, 3, next);
    assert!(slot.is_down());
    slot.stop();
    assert!(!slot.is_down());
    // An earlier supervisor serves meanwhile.
    let mut slot = Slot::new(WINDOWS, true);
    let next = fail(&mut slot, 1, at(0.0));
    fail(&mut slot, 2, next);
    assert!(!slot.is_down());
    assert!(!slot.is_empty());
    slot.predecessor_left();
    assert!(slot.is_down() && slot.is_empty());
    slot.retire();
    assert!(!slot.is_empty());
}

#[test]
fn a_process_that_ends_at_the_stop_is_no_failure() {
    let mut slot = serving();
    slot.stop();
    assert_eq!(slot.ended(1, at(1.0), 0.5), Some(Part::Leaving));
    assert_eq!((slot.next(at(1.0)), slot.is_over()), (None, true));
}

#[test]
fn the_process_of_an_earlier_supervisor_leaves_first() {
    let mut slot = Slot::new(WINDOWS, true);
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    slot.started(1, at(0.0));
    slot.ready(1, at(1.0));
    assert_eq!(slot.next(at(1.0)), Some(Action::DrainPredecessor));
    assert_eq!(slot.next(at(1.0)), None);
    slot.predecessor_left();
    assert_eq!(slot.next(at(1.1)), Some(Action::Serve(1)));
}

#[test]
fn an_earlier_supervisor_that_does_not_answer_is_not_waited_for() {
    let mut slot = Slot::new(WINDOWS, true);
    assert_eq!(slot.next(at(0.0)), Some(Action::Start));
    slot.started(1, at(0.0));
    slot.ready(1, at(1.0));
    assert_eq!(slot.next(at(1.0)), Some(Action::DrainPredecessor));
    assert_eq!(slot.next(at(5.9)), None);
    assert_eq!(slot.next(at(6.0)), Some(Action::Serve(1)));
}

#[test]
fn a_stop_ends_everything() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    slot.stop();
    assert_eq!(slot.next(at(2.0)), Some(Action::Stop(1)));
    assert_eq!(slot.next(at(2.0)), Some(Action::Stop(2)));
    assert_eq!(slot.next(at(2.0)), None);
    slot.ended(1, at(3.0), 0.5);
    assert_eq!(slot.next(at(7.0)), Some(Action::Kill(2)));
    slot.ended(2, at(7.0), 0.5);
    assert_eq!(slot.next(at(100.0)), None);
    assert!(slot.is_over());
}

#[test]
fn a_retired_slot_drains_and_starts_nothing() {
    let mut slot = serving();
    slot.renew();
    assert_eq!(slot.next(at(1.0)), Some(Action::Start));
    slot.started(2, at(1.0));
    slot.retire();
    assert_eq!(slot.next(at(2.0)), Some(Action::Drain(1)));
    assert_eq!(slot.next(at(2.0)), Some(Action::Stop(2)));
    assert_eq!(slot.next(at(2.0)), None);
    assert!(slot.takes_requests());
    slot.confirmed(1, at(2.1));
    assert!(!slot.takes_requests());
    slot.ended(1, at(3.0), 0.5);
    slot.ended(2, at(3.0), 0.5);
    assert_eq!((slot.next(at(9.0)), slot.is_over()), (None, true));
}

#[test]
fn an_idle_process_ends_until_a_request_comes() {
    let mut slot = serving();
    slot.sleep(7);
    assert_eq!(slot.next(at(60.0)), None);
    slot.sleep(1);
    assert_eq!(slot.next(at(60.0)), Some(Action::Drain(1)));
    slot.confirmed(1, at(60.0));
    assert!(!slot.sleeps());
    assert_eq!(slot.ended(1, at(60.1), 0.5), Some(Part::Leaving));
    assert!(slot.sleeps());
    assert_eq!((slot.next(at(100.0)), slot.due()), (None, None));
    slot.wake();
    assert_eq!(slot.next(at(200.0)), Some(Action::Start));
}

#[test]
fn a_request_that_comes_while_an_idle_process_ends_starts_the_next_one() {
    let mut slot = serving();
    slot.sleep(1);
    assert_eq!(slot.next(at(60.0)), Some(Action::Drain(1)));
    slot.wake();
    assert_eq!(slot.next(at(60.0)), Some(Action::Start));
    slot.started(2, at(60.0));
    slot.ready(2, at(60.5));
    assert_eq!(slot.next(at(60.5)), None);
    slot.confirmed(1, at(60.6));
    assert_eq!(slot.next(at(60.6)), Some(Action::Serve(2)));
}

/// What may happen to a slot.
#[derive(Clone, Copy, Debug)]
enum Event {
    Pass(u16),
    Ready,
    Confirm,
    EndOldest,
    EndNewest,
    Replace,
    Renew,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..20_000_u16).prop_map(Event::Pass),
        4 => Just(Event::Ready),
        3 => Just(Event::Confirm),
        1 => Just(Event::EndOldest),
        1 => Just(Event::EndNewest),
        2 => Just(Event::Replace),
        2 => Just(Event::Renew),
    ]
}

proptest! {
    /// Whatever happens, two processes never take requests at the same time, each is told to serve once and only
    /// when it is ready, and a slot without failures serves in the end.
    #[test]
    fn at_most_one_takes_requests(events in proptest::collection::vec(event(), 0..80)) {
        let mut slot = slot();
        let mut now = Duration::ZERO;
        let mut last = 0;
        let mut alive: Vec<u32> = Vec::new();
        let mut taking: Option<u32> = None;
        let mut act = |slot: &mut Slot<u32>, alive: &mut Vec<u32>, taking: &mut Option<u32>, now: Duration| {
            while let Some(action) = slot.next(now) {
                match action {
                    Action::Start => {
                        last += 1;
                        alive.push(last);
                        slot.started(last, now);
                    }
                    Action::Serve(id) => {
                        assert!(alive.contains(&id));
                        assert_eq!(*taking, None);
                        *taking = Some(id);
                    }
                    Action::Drain(id) => assert_eq!(*taking, Some(id)),
                    // The signal ends the process, sooner or later; it takes no more requests.
                    Action::Stop(id) | Action::Kill(id) | Action::GiveUp(id) => {
                        if *taking == Some(id) {
                            *taking = None;
                        }
                    }
                    Action::DrainPredecessor => panic!("there is none"),
                }
            }
        };
        act(&mut slot, &mut alive, &mut taking, now);
        for event in events {
            match event {
                Event::Pass(milliseconds) => now += Duration::from_millis(milliseconds.into()),
                Event::Ready => if let Some(&id) = alive.last() { slot.ready(id, now) },
                Event::Confirm => if let Some(id) = taking && slot.serving() != Some(id) {
                    slot.confirmed(id, now);
                    taking = None;
                },
                Event::EndOldest | Event::EndNewest if alive.is_empty() => {}
                Event::EndOldest | Event::EndNewest => {
                    let id = match event {
                        Event::EndOldest => alive.remove(0),
                        _ => alive.pop().expect("not empty"),
                    };
                    prop_assert!(slot.ended(id, now, 0.5).is_some());
                    if taking == Some(id) {
                        taking = None;
                    }
                }
                Event::Replace => if let Some(&id) = alive.first() { slot.replace(id) },
                Event::Renew => slot.renew(),
            }
            act(&mut slot, &mut alive, &mut taking, now);
        }
        // From now on everything goes well.
        for _ in 0..10 {
            now += Duration::from_secs(100);
            act(&mut slot, &mut alive, &mut taking, now);
            if let Some(&id) = alive.last() {
                slot.ready(id, now);
            }
            act(&mut slot, &mut alive, &mut taking, now);
            if let Some(id) = taking && slot.serving() != Some(id) {
                slot.confirmed(id, now);
                taking = None;
            }
            act(&mut slot, &mut alive, &mut taking, now);
        }
        prop_assert!(slot.serving().is_some());
        prop_assert_eq!(slot.serving(), taking);
    }
}
