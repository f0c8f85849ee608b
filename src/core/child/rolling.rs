//! The order in which children are replaced by successors with new code.
//!
//! Children retire one after the other, or a few at a time if there are many. The next child retires when the one
//! before has left and its successor is ready, or when the server wants no successor. At least one child always serves:
//! the only ready child retires last, and does not leave before its successor is ready. If successors do not get ready,
//! the roll stops, and the children that still serve go on.

use std::time::Duration;

/// What a roll knows about a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<Id> {
    /// Identifies the child from one step to the next.
    pub id: Id,
    /// Whether the child's code is older than the wanted code.
    pub is_old: bool,
    /// Whether the child was told to retire.
    pub is_marked: bool,
    /// What the child does.
    pub stage: ChildStage,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildStage {
    /// Loads its code.
    Starting,
    /// Serves.
    Ready,
    /// Could not load its code.
    NotReady,
    /// Takes no more connections.
    Draining,
}

/// What the reloader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<Id> {
    /// Wait.
    Wait,
    /// Tell this child to retire.
    Retire(Id),
    /// Nothing: all children serve the new code.
    Done,
    /// Stop the roll. Children that were told to retire and have not left stay.
    Failed(Failure<Id>),
}

/// Why the roll stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<Id> {
    /// This successor could not load the new code.
    NotReady(Id),
    /// This successor did not get ready within [`LOAD`].
    Late(Id),
    /// This number of successors in a row ended before they were ready.
    Lost(usize),
    /// No successor began within [`LOAD`], although the server could have started one.
    NotStarted,
    /// No successor could begin within [`LOAD`], as children that finish their requests hold all slots.
    NoRoom,
}

/// How long a child that was told to retire may take to leave before the next one is told.
const LEAVE: Duration = Duration::from_secs(30);
/// How long the server may take to start a successor; after that it is assumed to want none.
const SPAWN: Duration = Duration::from_secs(2);
/// How long a successor may take to start and get ready.
pub const LOAD: Duration = Duration::from_secs(90);
/// One out of this number of ready children may retire at a time.
const SHARE: usize = 4;
/// After this number of successors that end before they are ready, the roll stops.
const LOST: usize = 3;

/// A roll in progress. Times count from some moment before it began.
#[derive(Debug)]
pub struct Rolling<Id> {
    retiring: Vec<Retiring<Id>>,
    /// Successors that are not ready yet, and when each was first seen.
    starting: Vec<(Id, Duration)>,
    /// How many successors have ended before they were ready, since the last one that got ready.
    lost: usize,
    /// When the first step was taken.
    began: Option<Duration>,
}

#[derive(Debug)]
struct Retiring<Id> {
    id: Id,
    told: Duration,
    /// When the child was first seen to have left.
    left: Option<Duration>,
}

impl<Id> Default for Rolling<Id> {
    fn default() -> Self {
        Self {
            retiring: Vec::new(),
            starting: Vec::new(),
            lost: 0,
            began: None,
        }
    }
}

impl<Id: Copy + PartialEq> Rolling<Id> {
    /// Returns how many children have left.
    pub fn done(&self) -> usize {
        let left = self.retiring.iter().filter(|one| one.left.is_some());
        left.count()
    }

    /// Returns the next step at `now`, for these children. A child named in [`Step::Retire`] counts as told. `has_room`
    /// says whether the server could start another child.
    pub fn step(&mut self, children: &[Child<Id>], has_room: bool, now: Duration) -> Step<Id> {
        self.note(children, now);
        let is = |stage| move |child: &&Child<Id>| child.stage == stage;
        let new = || children.iter().filter(|child| !child.is_old);
        if let Some(child) = new().find(is(ChildStage::NotReady)) {
            return Step::Failed(Failure::NotReady(child.id));
        }
        if self.lost >= LOST {
            return Step::Failed(Failure::Lost(self.lost));
        }
        let mut starting = self.starting.iter();
        if let Some((id, _)) = starting.find(|(_, since)| now.saturating_sub(*since) >= LOAD) {
            return Step::Failed(Failure::Late(*id));
        }
        let is_stuck = !has_room
            && children
                .iter()
                .any(|child| child.stage == ChildStage::Draining);
        let nobody = Step::Failed(match is_stuck {
            true => Failure::NoRoom,
            false => Failure::NotStarted,
        });
        // A successor that starts has its own time limit.
        let is_starting = !self.starting.is_empty();
        let waited = if is_starting {
            Duration::ZERO
        } else {
            self.since_last(now)
        };
        let successors = new().filter(is(ChildStage::Ready)).count();
        let mut old = children
            .iter()
            .filter(|child| child.is_old && child.stage != ChildStage::Draining)
            .peekable();
        if old.peek().is_none() {
            return match successors {
                0 if waited >= LOAD => nobody,
                0 => Step::Wait,
                _ => Step::Done,
            };
        }
        let serving = children.iter().filter(is(ChildStage::Ready));
        let serving = serving.filter(|child| !child.is_marked).count();
        let staying = self.retiring.iter().filter(|one| one.left.is_none());
        let staying = staying.filter(|one| now.saturating_sub(one.told) < LEAVE);
        let at_a_time = (serving / SHARE).max(1);
        let missing = self.done().saturating_sub(successors);
        let may_go_on = match (staying.count(), serving) {
            // The last child that serves waits for its successor.
            (_, 0) => false,
            (staying, _) if staying >= at_a_time => false,
            // The only serving child asks for its successor itself, so no successor has to exist yet; but the server
            // needs room for it.
            (_, 1) if is_starting || is_stuck => false,
            _ if missing < at_a_time => true,
            // If no successor comes although there is room, the server wants none.
            _ => !is_starting && !is_stuck && waited >= SPAWN,
        };
        let next = old.find(|child| child.stage == ChildStage::Ready && !child.is_marked);
        match next.filter(|_| may_go_on) {
            Some(next) => {
                self.tell(next.id, now);
                Step::Retire(next.id)
            }
            None if waited >= LOAD && (serving == 0 || is_stuck) => nobody,
            None => Step::Wait,
        }
    }

    /// Records what has happened since the last step.
    fn note(&mut self, children: &[Child<Id>], now: Duration) {
        self.began.get_or_insert(now);
        let told_before = |child: &&Child<Id>| child.is_old && child.is_marked;
        for child in children.iter().filter(told_before) {
            if !self.retiring.iter().any(|one| one.id == child.id) {
                // An earlier reloader told this child.
                self.tell(child.id, now);
            }
        }
        for one in &mut self.retiring {
            let stays =
                |child: &Child<Id>| child.id == one.id && child.stage != ChildStage::Draining;
            if one.left.is_none() && !children.iter().any(stays) {
                one.left = Some(now);
            }
        }
        let stage_of = |id: Id| {
            let child = children.iter().find(|child| child.id == id);
            child.map(|child| child.stage)
        };
        let known = self.starting.len();
        self.starting.retain(|(id, _)| {
            let stage = stage_of(*id);
            matches!(
                stage,
                Some(ChildStage::Starting | ChildStage::Ready | ChildStage::NotReady)
            )
        });
        self.lost += known - self.starting.len();
        let known = self.starting.len();
        let is_starting = |id: Id| stage_of(id) == Some(ChildStage::Starting);
        self.starting.retain(|(id, _)| is_starting(*id));
        if self.starting.len() < known {
            self.lost = 0;
        }
        for child in children.iter().filter(|child| !child.is_old) {
            let is_known = self.starting.iter().any(|(id, _)| *id == child.id);
            if child.stage == ChildStage::Starting && !is_known {
                self.starting.push((child.id, now));
            }
        }
    }

    fn tell(&mut self, id: Id, now: Duration) {
        self.retiring.push(Retiring {
            id,
            told: now,
            left: None,
        });
    }

    /// Returns the time since the last child left or was told to, or else since the roll began.
    fn since_last(&self, now: Duration) -> Duration {
        let last = self.retiring.iter();
        let last = last.map(|one| one.left.unwrap_or(one.told)).max();
        now.saturating_sub(last.or(self.began).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChildStage::{Draining, NotReady, Ready, Starting};

    fn old(id: u32, stage: ChildStage) -> Child<u32> {
        Child {
            id,
            is_old: true,
            is_marked: false,
            stage,
        }
    }

    fn new(id: u32, stage: ChildStage) -> Child<u32> {
        Child {
            is_old: false,
            ..old(id, stage)
        }
    }

    fn marked(id: u32, stage: ChildStage) -> Child<u32> {
        Child {
            is_marked: true,
            ..old(id, stage)
        }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_goes_after_the_other_when_a_successor_is_ready() {
        let mut rolling = Rolling::default();
        let two = [old(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&two, true, at(0)), Step::Retire(1));
        let stays = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&stays, true, at(1)), Step::Wait);
        let left = [marked(1, Draining), old(2, Ready)];
        assert_eq!(rolling.step(&left, true, at(2)), Step::Wait);
        let starting = [marked(1, Draining), old(2, Ready), new(3, Starting)];
        assert_eq!(rolling.step(&starting, true, at(3)), Step::Wait);
        assert_eq!(rolling.step(&starting, true, at(60)), Step::Wait);
        let ready = [old(2, Ready), new(3, Ready)];
        assert_eq!(rolling.step(&ready, true, at(61)), Step::Retire(2));
        let last = [marked(2, Draining), new(3, Ready)];
        assert_eq!(rolling.step(&last, true, at(62)), Step::Done);
        assert_eq!(rolling.done(), 2);
    }

    #[test]
    fn where_the_server_wants_no_successor_it_goes_on_after_a_while() {
        let mut rolling = Rolling::default();
        assert_eq!(
            rolling.step(&[old(1, Ready), old(2, Ready)], true, at(0)),
            Step::Retire(1)
        );
        let left = [old(2, Ready)];
        assert_eq!(rolling.step(&left, true, at(1)), Step::Wait);
        assert_eq!(rolling.step(&left, true, at(2)), Step::Wait);
        assert_eq!(rolling.step(&left, true, at(3)), Step::Retire(2));
        assert_eq!(rolling.step(&[], true, at(5)), Step::Wait);
        assert_eq!(rolling.step(&[new(3, Starting)], true, at(6)), Step::Wait);
        assert_eq!(rolling.step(&[new(3, Ready)], true, at(7)), Step::Done);
    }

    #[test]
    fn the_only_one_that_serves_goes_at_once_or_when_the_one_that_starts_is_ready() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Ready)], true, at(0)), Step::Retire(1));
        let mut rolling = Rolling::default();
        let starting = [old(1, Ready), new(2, Starting)];
        assert_eq!(rolling.step(&starting, true, at(1)), Step::Wait);
        let ready = [old(1, Ready), new(2, Ready)];
        assert_eq!(rolling.step(&ready, true, at(2)), Step::Retire(1));
    }

    #[test]
    fn a_successor_that_cannot_load_stops_it() {
        let mut rolling = Rolling::default();
        let failed = [old(1, Ready), new(2, NotReady)];
        assert_eq!(
            rolling.step(&failed, true, at(0)),
            Step::Failed(Failure::NotReady(2))
        );
    }

    #[test]
    fn one_that_takes_too_long_stops_it() {
        let mut rolling = Rolling::default();
        let two = [old(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&two, true, at(0)), Step::Retire(1));
        let loading = [old(2, Ready), new(3, Starting)];
        assert_eq!(rolling.step(&loading, true, at(1)), Step::Wait);
        assert_eq!(rolling.step(&loading, true, at(90)), Step::Wait);
        let late = Step::Failed(Failure::Late(3));
        assert_eq!(rolling.step(&loading, true, at(91)), late);
    }

    #[test]
    fn successors_that_end_before_they_are_ready_stop_it() {
        let mut rolling = Rolling::default();
        let two = [old(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&two, true, at(0)), Step::Retire(1));
        let mut steps = Vec::new();
        for id in 3..6 {
            steps.push(rolling.step(&[old(2, Ready), new(id, Starting)], true, at(1)));
            steps.push(rolling.step(&[old(2, Ready)], true, at(1)));
        }
        assert_eq!(steps.pop(), Some(Step::Failed(Failure::Lost(3))));
        assert!(steps.iter().all(|step| *step == Step::Wait), "{steps:?}");
        // A successor that gets ready in between resets the count.
        let mut rolling = Rolling::default();
        for id in 3..9 {
            let end = if id == 5 { Ready } else { Starting };
            assert_eq!(
                rolling.step(&[old(2, Ready), new(id, Starting)], true, at(1)),
                Step::Wait
            );
            rolling.step(&[marked(2, Ready), new(id, end)], true, at(1));
            let gone = rolling.step(&[marked(2, Ready)], true, at(1));
            assert_eq!(matches!(gone, Step::Failed(_)), id == 8);
        }
    }

    #[test]
    fn the_last_one_stays_while_children_that_finish_have_all_places() {
        let mut rolling = Rolling::default();
        let full = [old(1, Ready), old(8, Draining), old(9, Draining)];
        assert_eq!(rolling.step(&full, false, at(0)), Step::Wait);
        assert_eq!(rolling.step(&full, false, at(89)), Step::Wait);
        let no_room = Step::Failed(Failure::NoRoom);
        assert_eq!(rolling.step(&full, false, at(90)), no_room);
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&full, false, at(0)), Step::Wait);
        assert_eq!(rolling.step(&full[..2], true, at(1)), Step::Retire(1));
    }

    #[test]
    fn the_last_one_is_not_waited_for_without_end() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Ready)], true, at(0)), Step::Retire(1));
        let waits = [marked(1, Ready)];
        assert_eq!(rolling.step(&waits, true, at(89)), Step::Wait);
        let not_started = Step::Failed(Failure::NotStarted);
        assert_eq!(rolling.step(&waits, true, at(90)), not_started);
        // The child has left, and no successor comes.
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Ready)], true, at(0)), Step::Retire(1));
        assert_eq!(rolling.step(&[], true, at(1)), Step::Wait);
        assert_eq!(rolling.step(&[], true, at(91)), not_started);
    }

    #[test]
    fn one_that_does_not_leave_holds_the_others_up_for_a_while_only() {
        let mut rolling = Rolling::default();
        assert_eq!(
            rolling.step(&[old(1, Ready), old(2, Ready)], true, at(0)),
            Step::Retire(1)
        );
        let stuck = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&stuck, true, at(29)), Step::Wait);
        assert_eq!(rolling.step(&stuck, true, at(30)), Step::Retire(2));
    }

    #[test]
    fn of_many_a_quarter_goes_at_a_time() {
        let mut rolling = Rolling::default();
        let mut children: Vec<_> = (0..8).map(|id| old(id, Ready)).collect();
        assert_eq!(rolling.step(&children, true, at(0)), Step::Retire(0));
        children[0].is_marked = true;
        // Seven children are left to serve.
        assert_eq!(rolling.step(&children, true, at(0)), Step::Wait);
        let mut rolling = Rolling::default();
        let mut children: Vec<_> = (0..12).map(|id| old(id, Ready)).collect();
        assert_eq!(rolling.step(&children, true, at(0)), Step::Retire(0));
        children[0].is_marked = true;
        assert_eq!(rolling.step(&children, true, at(0)), Step::Retire(1));
        children[1].is_marked = true;
        assert_eq!(rolling.step(&children, true, at(0)), Step::Wait);
    }

    #[test]
    fn marks_of_an_earlier_reloader_are_known() {
        let mut rolling = Rolling::default();
        let children = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&children, true, at(5)), Step::Wait);
        assert_eq!(rolling.step(&children, true, at(36)), Step::Retire(2));
    }

    #[test]
    fn children_that_still_load_old_code_are_waited_for() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Starting)], true, at(0)), Step::Wait);
        assert_eq!(rolling.step(&[old(1, Ready)], true, at(1)), Step::Retire(1));
    }
}
