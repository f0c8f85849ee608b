//! The processes of one slot of a process group: which one takes requests, when a successor starts, and when a process
//! must end.
//!
//! A slot has one process that takes requests. To replace it, a successor starts first. When the successor has loaded
//! its application, the old process stops taking requests, and only then does the successor begin: so a group with one
//! slot never has two processes that take new requests at the same time. The old process then has a window for the
//! requests that it runs; after the window it is asked to end, and later killed. If the successor does not get ready,
//! the old process goes on.
//!
//! A process that serves may ask for a successor once, with [`Slot::replace`]. When there is new code, the process that
//! loads the old code is superseded as well: [`Slot::renew`].
//!
//! All times count from the same moment, in the supervisor's clock.

use std::time::Duration;

/// How long a process may take for each part of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How long each step of a start may take; `None` for no limit.
    pub startup: Option<Duration>,
    /// How long a replaced process may take to finish its requests.
    pub drain: Duration,
    /// The same for a process that was told to leave ([`Slot::evict`]).
    pub eviction: Duration,
    /// How long a process that was asked to end may take, until it is killed.
    pub shutdown: Duration,
    /// A process that has served for less than this counts as a failed start; `None` if none does.
    pub shortest: Option<Duration>,
}

/// What the supervisor must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<Id> {
    /// Start a process, and report [`Slot::started`] or [`Slot::failed_to_start`].
    Start,
    /// Tell this process to take requests.
    Serve(Id),
    /// Tell this process to take no more requests, and to end when it has finished those that it runs.
    Drain(Id),
    /// Tell the same to the process of the supervisor before this one.
    DrainPredecessor,
    /// Ask this process to end.
    Stop(Id),
    /// Kill this process.
    Kill(Id),
    /// Kill this process, which has not got ready in time.
    GiveUp(Id),
}

/// Which part a process had in its slot when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It had not got ready.
    Starting,
    /// It was taking requests.
    Serving,
    /// It had been replaced, or the whole slot ends.
    Leaving,
    /// It had been asked to end before it had finished, or killed.
    Stopped,
}

/// The shortest pause after a failed start.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a process may take to confirm that it takes no more requests. A process that does not is asked to end.
const CONFIRM: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    /// Ready; waits until it may take requests.
    Ready,
    Serving,
    /// Told to drain; has not confirmed.
    Told,
    Draining,
    Stopping,
    Killed,
}

#[derive(Clone, Copy, Debug)]
struct Member<Id> {
    id: Id,
    stage: Stage,
    part: Part,
    /// When the stage began, or the last step of the start.
    since: Duration,
    started: Duration,
    /// Its successor was asked for.
    has_asked: bool,
    /// It was told to leave.
    is_evicted: bool,
    /// It loads code that is old.
    is_superseded: bool,
}

/// The slot, and the processes in it.
#[derive(Debug)]
pub struct Slot<Id> {
    windows: Windows,
    members: Vec<Member<Id>>,
    /// Whether the process that serves must be replaced.
    is_outdated: bool,
    /// Whether a process of the supervisor before this one may take requests.
    predecessor: Predecessor,
    failures: u32,
    /// When the next process may start.
    not_before: Duration,
    is_stopping: bool,
    /// Another supervisor has the slot now.
    is_retired: bool,
    /// The slot needs no process until a request comes.
    is_asleep: bool,
    is_being_started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Predecessor {
    Serves,
    Told(Duration),
    Gone,
}

impl<Id: Copy + PartialEq> Slot<Id> {
    /// Returns an empty slot. `has_predecessor`: whether a process of an earlier supervisor takes its requests now.
    pub fn new(windows: Windows, has_predecessor: bool) -> Self {
        Self {
            windows,
            members: Vec::new(),
            is_outdated: false,
            predecessor: if has_predecessor {
                Predecessor::Serves
            } else {
                Predecessor::Gone
            },
            failures: 0,
            not_before: Duration::ZERO,
            is_stopping: false,
            is_retired: false,
            is_asleep: false,
            is_being_started: false,
        }
    }

    /// Notes that a process has started.
    pub fn started(&mut self, id: Id, now: Duration) {
        self.is_being_started = false;
        self.members.push(Member {
            id,
            stage: Stage::Starting,
            part: Part::Starting,
            since: now,
            started: now,
            has_asked: false,
            is_evicted: false,
            is_superseded: false,
        });
    }

    /// Notes that no process could be started. `jitter` is a random number from 0 to 1.
    pub fn failed_to_start(&mut self, now: Duration, jitter: f64) {
        self.is_being_started = false;
        self.pause(now, jitter);
    }

    /// Notes that a process has begun the next step of its start.
    pub fn steps(&mut self, id: Id, now: Duration) {
        if let Some(member) = self.member(id, Stage::Starting) {
            member.since = now;
        }
    }

    /// Notes that a process has loaded its application.
    pub fn ready(&mut self, id: Id, now: Duration) {
        if let Some(member) = self.member(id, Stage::Starting) {
            member.enter(Stage::Ready, now);
        }
    }

    /// Notes that a process has confirmed that it takes no more requests.
    pub fn confirmed(&mut self, id: Id, now: Duration) {
        if let Some(member) = self.member(id, Stage::Told) {
            member.enter(Stage::Draining, now);
        }
    }

    /// Notes that the process of the earlier supervisor takes no more requests, or has ended.
    pub fn predecessor_left(&mut self) {
        self.predecessor = Predecessor::Gone;
    }

    /// Asks for a successor of this process. Only the process that serves may ask, and only its first call counts: if
    /// the successor fails, another one is tried.
    pub fn replace(&mut self, id: Id) {
        if let Some(member) = self.member(id, Stage::Serving)
            && !std::mem::replace(&mut member.has_asked, true)
        {
            self.is_outdated = true;
        }
    }

    /// Asks for a process with the code of this moment, at once: a process that is starting has older code, and ends.
    pub fn renew(&mut self) {
        self.is_outdated = true;
        self.not_before = Duration::ZERO;
        for member in &mut self.members {
            member.is_superseded |= member.stage == Stage::Starting;
        }
    }

    /// Does the same because this process asks for it. Returns whether it may: it starts or serves.
    pub fn renew_for(&mut self, id: Id) -> bool {
        let mut members = self.members.iter();
        let may_ask = members.any(|member| {
            member.id == id && matches!(member.stage, Stage::Starting | Stage::Serving)
        });
        if may_ask {
            self.renew();
        }
        may_ask
    }

    /// Does the same because this process was told to leave; the window for its requests is then
    /// [`Windows::eviction`].
    pub fn evict(&mut self, id: Id) {
        if self.renew_for(id) {
            let evicted = self.members.iter_mut().filter(|member| member.id == id);
            evicted.for_each(|member| member.is_evicted = true);
        }
    }

    /// Notes that the process that serves has had no request for long: it ends, and the next one starts with the next
    /// request. A process that is no longer the one that serves is ignored.
    pub fn sleep(&mut self, id: Id) {
        self.is_asleep |= self.serving() == Some(id) && !self.is_outdated;
    }

    /// Notes that a request waits for the slot.
    pub fn wake(&mut self) {
        self.is_asleep = false;
    }

    /// Returns whether the slot has no process, and waits for a request.
    pub fn sleeps(&self) -> bool {
        self.is_asleep && self.members.is_empty() && !self.is_stopping && !self.is_retired
    }

    /// Ends all processes of the slot.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Returns whether all processes of the slot end.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Gives the slot to another supervisor: the process that serves drains, and no other one starts.
    pub fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Returns whether a process of this slot may take requests.
    pub fn takes_requests(&self) -> bool {
        self.find(Stage::Serving).is_some() || self.find(Stage::Told).is_some()
    }

    /// Returns whether no process takes the requests of this slot now, of this or of an earlier supervisor. A slot that a
    /// later supervisor has is never empty for this one.
    pub fn is_empty(&self) -> bool {
        let is_served = self.takes_requests() || self.predecessor != Predecessor::Gone;
        !is_served && !self.is_retired
    }

    /// Returns whether requests wait in vain: no process takes them, none starts, and the last ones have failed to start.
    /// After a first failure, the pause is short enough to wait.
    pub fn is_down(&self) -> bool {
        let is_there = |stage| self.find(stage).is_some();
        let is_coming =
            self.is_being_started || is_there(Stage::Starting) || is_there(Stage::Ready);
        let is_active = !(self.is_stopping || self.is_retired || self.is_asleep);
        is_active && self.is_empty() && !is_coming && self.failures > 1
    }

    /// Notes that a process has ended. Returns the part that it had; `None` if it is not of this slot. `jitter` is a
    /// random number from 0 to 1.
    pub fn ended(&mut self, id: Id, now: Duration, jitter: f64) -> Option<Part> {
        let at = self.members.iter().position(|member| member.id == id)?;
        let member = self.members.remove(at);
        let part = match member.stage {
            _ if self.is_stopping => Part::Leaving,
            Stage::Stopping | Stage::Killed if member.part == Part::Leaving => Part::Stopped,
            _ => member.part,
        };
        let age = now.saturating_sub(member.started);
        let is_short = self.windows.shortest.is_some_and(|shortest| age < shortest);
        match part {
            // The pause began when it was killed.
            Part::Starting if member.stage == Stage::Killed => {}
            Part::Starting => self.pause(now, jitter),
            Part::Serving if is_short => self.pause(now, jitter),
            Part::Serving | Part::Leaving | Part::Stopped => self.failures = 0,
        }
        Some(part)
    }

    /// Returns whether no process is left and none will start.
    pub fn is_over(&self) -> bool {
        self.members.is_empty() && (self.is_stopping || self.is_retired)
    }

    /// Returns the process that takes requests.
    pub fn serving(&self) -> Option<Id> {
        self.find(Stage::Serving).map(|member| member.id)
    }

    /// Returns the next action; call it until there is none.
    pub fn next(&mut self, now: Duration) -> Option<Action<Id>> {
        if self.is_stopping {
            return self.next_of_end(now);
        }
        if let Some(action) = self.next_of_leaving(now) {
            return Some(action);
        }
        if self.is_retired || self.is_asleep {
            return self.next_of_retirement(now);
        }
        if let Some(old) = self.members.iter_mut().find(|member| member.is_superseded) {
            old.is_superseded = false;
            if old.stage == Stage::Starting {
                old.enter(Stage::Stopping, now);
                return Some(Action::Stop(old.id));
            }
        }
        let startup = self.windows.startup;
        if let Some(late) = self.members.iter_mut().find(|member| {
            member.stage == Stage::Starting
                && startup.is_some_and(|limit| now.saturating_sub(member.since) >= limit)
        }) {
            late.enter(Stage::Killed, now);
            let id = late.id;
            // A process that the kernel cannot end at once does not hold up the next one.
            self.pause(now, 0.5);
            return Some(Action::GiveUp(id));
        }
        if let Some(ready) = self.find(Stage::Ready).map(|member| member.id) {
            return self.next_of_change(ready, now);
        }
        if self.wants_start() && now >= self.not_before {
            self.is_being_started = true;
            self.is_outdated = false;
            return Some(Action::Start);
        }
        None
    }

    /// Returns when [`Slot::next`] must be called again even if nothing happens; `None` for never.
    pub fn due(&self) -> Option<Duration> {
        let of_members = self.members.iter().filter_map(|member| {
            let limit = match member.stage {
                Stage::Starting => self.windows.startup?,
                Stage::Told => CONFIRM,
                Stage::Draining => self.windows.drain_of(member.is_evicted),
                Stage::Stopping => self.windows.shutdown,
                Stage::Ready | Stage::Serving | Stage::Killed => return None,
            };
            Some(member.since + limit)
        });
        let of_predecessor = match self.predecessor {
            Predecessor::Told(since) => Some(since + CONFIRM),
            Predecessor::Serves | Predecessor::Gone => None,
        };
        let of_start = self.wants_start().then_some(self.not_before);
        of_members.chain(of_predecessor).chain(of_start).min()
    }

    /// Returns whether another process must start.
    fn wants_start(&self) -> bool {
        let is_underway = self.is_being_started
            || self.find(Stage::Starting).is_some()
            || self.find(Stage::Ready).is_some();
        let is_wanted = self.is_outdated || self.serving().is_none();
        let is_active = !(self.is_stopping || self.is_retired || self.is_asleep);
        is_wanted && !is_underway && is_active
    }

    /// Passes the requests from the process that serves to the one that is ready.
    fn next_of_change(&mut self, ready: Id, now: Duration) -> Option<Action<Id>> {
        match self.predecessor {
            Predecessor::Serves => {
                self.predecessor = Predecessor::Told(now);
                return Some(Action::DrainPredecessor);
            }
            Predecessor::Told(since) if now.saturating_sub(since) < CONFIRM => return None,
            Predecessor::Told(_) | Predecessor::Gone => self.predecessor = Predecessor::Gone,
        }
        if let Some(old) = self.serving() {
            let old = self.member(old, Stage::Serving)?;
            old.enter(Stage::Told, now);
            return Some(Action::Drain(old.id));
        }
        if self.find(Stage::Told).is_some() {
            return None;
        }
        self.member(ready, Stage::Ready)?.enter(Stage::Serving, now);
        Some(Action::Serve(ready))
    }

    /// Moves on the processes whose window has ended.
    fn next_of_leaving(&mut self, now: Duration) -> Option<Action<Id>> {
        let windows = self.windows;
        self.members.iter_mut().find_map(|member| {
            let waited = now.saturating_sub(member.since);
            match member.stage {
                Stage::Told if waited >= CONFIRM => {}
                Stage::Draining if waited >= windows.drain_of(member.is_evicted) => {}
                Stage::Stopping if waited >= windows.shutdown => {
                    member.enter(Stage::Killed, now);
                    return Some(Action::Kill(member.id));
                }
                _ => return None,
            }
            member.enter(Stage::Stopping, now);
            Some(Action::Stop(member.id))
        })
    }

    fn next_of_retirement(&mut self, now: Duration) -> Option<Action<Id>> {
        self.members
            .iter_mut()
            .find_map(|member| match member.stage {
                Stage::Serving => {
                    member.enter(Stage::Told, now);
                    Some(Action::Drain(member.id))
                }
                Stage::Starting | Stage::Ready => {
                    member.enter(Stage::Stopping, now);
                    Some(Action::Stop(member.id))
                }
                Stage::Told | Stage::Draining | Stage::Stopping | Stage::Killed => None,
            })
    }

    fn next_of_end(&mut self, now: Duration) -> Option<Action<Id>> {
        let other = self
            .members
            .iter_mut()
            .find(|member| !matches!(member.stage, Stage::Stopping | Stage::Killed));
        match other {
            Some(member) => {
                member.enter(Stage::Stopping, now);
                Some(Action::Stop(member.id))
            }
            None => self.next_of_leaving(now),
        }
    }

    fn pause(&mut self, now: Duration, jitter: f64) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        // Between four fifths and six fifths, so that groups that fail together do not go on together.
        let factor = 0.8 + 0.4 * jitter.clamp(0.0, 1.0);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + doubled.min(LONGEST_PAUSE).mul_f64(factor);
        // A successor that failed is tried again.
        self.is_outdated |= self.serving().is_some();
    }

    fn find(&self, stage: Stage) -> Option<&Member<Id>> {
        self.members.iter().find(|member| member.stage == stage)
    }

    fn member(&mut self, id: Id, stage: Stage) -> Option<&mut Member<Id>> {
        let mut members = self.members.iter_mut();
        members.find(|member| member.id == id && member.stage == stage)
    }
}

impl Windows {
    fn drain_of(&self, is_evicted: bool) -> Duration {
        if is_evicted {
            self.eviction
        } else {
            self.drain
        }
    }
}

impl<Id> Member<Id> {
    fn enter(&mut self, stage: Stage, now: Duration) {
        self.part = match (stage, self.part) {
            (Stage::Starting | Stage::Ready, _) => Part::Starting,
            (Stage::Serving, _) => Part::Serving,
            // A start that is ended for its length has failed.
            (Stage::Killed, Part::Starting) => Part::Starting,
            (Stage::Told | Stage::Draining | Stage::Stopping | Stage::Killed, _) => Part::Leaving,
        };
        self.stage = stage;
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
