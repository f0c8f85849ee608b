//! The order in which children are replaced by successors with new code.
//!
//! One after the other, or a few at a time where there are many. The next one retires when the one before has left, and
//! its successor is ready, or there is none because the server does not want one. Somebody always serves: the only child
//! that is ready retires last of all, and asks for its successor by itself.

use std::time::Duration;

/// A child, by what it is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<Id> {
    /// By which it is known again.
    pub id: Id,
    /// Whether its code is older than what is wanted.
    pub is_old: bool,
    /// Whether it was told to retire.
    pub is_marked: bool,
    /// What it does.
    pub state: State,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Loads its code.
    Starting,
    /// Serves.
    Ready,
    /// Could not load its code.
    NotReady,
    /// Takes no more connections.
    Draining,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<Id> {
    /// Nothing yet.
    Wait,
    /// This child is to be told to retire.
    Retire(Id),
    /// All serve the new code.
    Done,
    /// This child could not load it.
    Failed(Id),
}

/// How long a child that was told may take to leave before the next one is told.
const LEAVE: Duration = Duration::from_secs(30);
/// How long the server may take to start a successor before it is taken not to want one.
const SPAWN: Duration = Duration::from_secs(2);
/// How long a successor may take to be ready before the next one retires anyway.
const LOAD: Duration = Duration::from_secs(90);
/// Of so many children that are ready, one may retire at a time.
const SHARE: usize = 4;

/// A replacement of children that goes on. Times are since some moment before it.
#[derive(Debug)]
pub struct Rolling<Id> {
    retiring: Vec<Retiring<Id>>,
}

#[derive(Debug)]
struct Retiring<Id> {
    id: Id,
    told: Duration,
    /// When it was first seen to have left.
    left: Option<Duration>,
}

impl<Id> Default for Rolling<Id> {
    fn default() -> Self {
        Self {
            retiring: Vec::new(),
        }
    }
}

impl<Id: Copy + PartialEq> Rolling<Id> {
    /// How many children have left.
    pub fn done(&self) -> usize {
        let left = self.retiring.iter().filter(|one| one.left.is_some());
        left.count()
    }

    /// The next step, at `now`, with these children; one that is answered by [`Step::Retire`] counts as told.
    pub fn step(&mut self, children: &[Child<Id>], now: Duration) -> Step<Id> {
        for child in children
            .iter()
            .filter(|child| child.is_old && child.is_marked)
        {
            if !self.retiring.iter().any(|one| one.id == child.id) {
                // By whoever did this before us.
                self.tell(child.id, now);
            }
        }
        for one in &mut self.retiring {
            let stays = |child: &Child<Id>| child.id == one.id && child.state != State::Draining;
            if one.left.is_none() && !children.iter().any(stays) {
                one.left = Some(now);
            }
        }
        let is = |state| move |child: &&Child<Id>| child.state == state;
        let new = || children.iter().filter(|child| !child.is_old);
        if let Some(child) = new().find(is(State::NotReady)) {
            return Step::Failed(child.id);
        }
        let old = children.iter().filter(|child| child.is_old);
        let mut old = old
            .filter(|child| child.state != State::Draining)
            .peekable();
        if old.peek().is_none() {
            return match self.has_successor(children, now) {
                true => Step::Done,
                false => Step::Wait,
            };
        }
        let ready = children.iter().filter(is(State::Ready));
        let ready = ready.filter(|child| !child.is_marked).count();
        let next = old.find(|child| child.state == State::Ready && !child.is_marked);
        let Some(next) = next.filter(|_| self.may_go_on(children, ready, now)) else {
            return Step::Wait;
        };
        self.tell(next.id, now);
        Step::Retire(next.id)
    }

    fn tell(&mut self, id: Id, now: Duration) {
        self.retiring.push(Retiring {
            id,
            told: now,
            left: None,
        });
    }

    /// Whether another child may be told now, of which `ready` serve.
    fn may_go_on(&self, children: &[Child<Id>], ready: usize, now: Duration) -> bool {
        let staying = self.retiring.iter().filter(|one| one.left.is_none());
        let staying = staying.filter(|one| now.saturating_sub(one.told) < LEAVE);
        let at_a_time = (ready / SHARE).max(1);
        if staying.count() >= at_a_time {
            return false;
        }
        let missing = self.done().saturating_sub(successors(children));
        // The only one that serves is not told while another one is about to.
        let enough = missing < at_a_time && !(ready <= 1 && is_starting(children));
        enough || self.has_waited(children, now)
    }

    /// Whether somebody serves, or nobody is to be expected who will.
    fn has_successor(&self, children: &[Child<Id>], now: Duration) -> bool {
        successors(children) > 0 || self.has_waited(children, now)
    }

    /// Whether enough time has passed for the successor of the last one that has left.
    fn has_waited(&self, children: &[Child<Id>], now: Duration) -> bool {
        let last = self.retiring.iter();
        let last = last.filter_map(|one| one.left.or(Some(one.told))).max();
        let waited = last.map_or(LOAD, |last| now.saturating_sub(last));
        waited >= if is_starting(children) { LOAD } else { SPAWN }
    }
}

fn is_starting<Id>(children: &[Child<Id>]) -> bool {
    children.iter().any(|child| child.state == State::Starting)
}

/// How many serve the new code.
fn successors<Id>(children: &[Child<Id>]) -> usize {
    let new = children.iter().filter(|child| !child.is_old);
    new.filter(|child| child.state == State::Ready).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Draining, NotReady, Ready, Starting};

    fn old(id: u32, state: State) -> Child<u32> {
        Child {
            id,
            is_old: true,
            is_marked: false,
            state,
        }
    }

    fn new(id: u32, state: State) -> Child<u32> {
        Child {
            is_old: false,
            ..old(id, state)
        }
    }

    fn marked(id: u32, state: State) -> Child<u32> {
        Child {
            is_marked: true,
            ..old(id, state)
        }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_goes_after_the_other_when_a_successor_is_ready() {
        let mut rolling = Rolling::default();
        let two = [old(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&two, at(0)), Step::Retire(1));
        let stays = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&stays, at(1)), Step::Wait);
        let left = [marked(1, Draining), old(2, Ready)];
        assert_eq!(rolling.step(&left, at(2)), Step::Wait);
        let starting = [marked(1, Draining), old(2, Ready), new(3, Starting)];
        assert_eq!(rolling.step(&starting, at(3)), Step::Wait);
        assert_eq!(rolling.step(&starting, at(60)), Step::Wait);
        let ready = [old(2, Ready), new(3, Ready)];
        assert_eq!(rolling.step(&ready, at(61)), Step::Retire(2));
        let last = [marked(2, Draining), new(3, Ready)];
        assert_eq!(rolling.step(&last, at(62)), Step::Done);
        assert_eq!(rolling.done(), 2);
    }

    #[test]
    fn where_the_server_wants_no_successor_it_goes_on_after_a_while() {
        let mut rolling = Rolling::default();
        assert_eq!(
            rolling.step(&[old(1, Ready), old(2, Ready)], at(0)),
            Step::Retire(1)
        );
        let left = [old(2, Ready)];
        assert_eq!(rolling.step(&left, at(1)), Step::Wait);
        assert_eq!(rolling.step(&left, at(2)), Step::Wait);
        assert_eq!(rolling.step(&left, at(3)), Step::Retire(2));
        assert_eq!(rolling.step(&[], at(5)), Step::Wait);
        assert_eq!(rolling.step(&[new(3, Starting)], at(6)), Step::Wait);
        assert_eq!(rolling.step(&[new(3, Ready)], at(7)), Step::Done);
    }

    #[test]
    fn the_only_one_that_serves_goes_at_once_or_when_the_one_that_starts_is_ready() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Ready)], at(0)), Step::Retire(1));
        let mut rolling = Rolling::default();
        rolling.tell(9, at(0));
        let starting = [old(1, Ready), new(2, Starting)];
        assert_eq!(rolling.step(&starting, at(1)), Step::Wait);
        let ready = [old(1, Ready), new(2, Ready)];
        assert_eq!(rolling.step(&ready, at(2)), Step::Retire(1));
    }

    #[test]
    fn a_successor_that_cannot_load_stops_it() {
        let mut rolling = Rolling::default();
        let failed = [old(1, Ready), new(2, NotReady)];
        assert_eq!(rolling.step(&failed, at(0)), Step::Failed(2));
    }

    #[test]
    fn one_that_does_not_leave_holds_the_others_up_for_a_while_only() {
        let mut rolling = Rolling::default();
        assert_eq!(
            rolling.step(&[old(1, Ready), old(2, Ready)], at(0)),
            Step::Retire(1)
        );
        let stuck = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&stuck, at(29)), Step::Wait);
        assert_eq!(rolling.step(&stuck, at(30)), Step::Retire(2));
    }

    #[test]
    fn of_many_a_quarter_goes_at_a_time() {
        let mut rolling = Rolling::default();
        let mut children: Vec<_> = (0..8).map(|id| old(id, Ready)).collect();
        assert_eq!(rolling.step(&children, at(0)), Step::Retire(0));
        children[0].is_marked = true;
        // Seven are left to serve.
        assert_eq!(rolling.step(&children, at(0)), Step::Wait);
        let mut rolling = Rolling::default();
        let mut children: Vec<_> = (0..12).map(|id| old(id, Ready)).collect();
        assert_eq!(rolling.step(&children, at(0)), Step::Retire(0));
        children[0].is_marked = true;
        assert_eq!(rolling.step(&children, at(0)), Step::Retire(1));
        children[1].is_marked = true;
        assert_eq!(rolling.step(&children, at(0)), Step::Wait);
    }

    #[test]
    fn marks_of_an_earlier_steward_are_known() {
        let mut rolling = Rolling::default();
        let children = [marked(1, Ready), old(2, Ready)];
        assert_eq!(rolling.step(&children, at(5)), Step::Wait);
        assert_eq!(rolling.step(&children, at(36)), Step::Retire(2));
    }

    #[test]
    fn children_that_still_load_old_code_are_waited_for() {
        let mut rolling = Rolling::default();
        assert_eq!(rolling.step(&[old(1, Starting)], at(0)), Step::Wait);
        assert_eq!(rolling.step(&[old(1, Ready)], at(1)), Step::Retire(1));
    }
}
