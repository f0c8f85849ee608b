//! The monitor of a child: a thread that checks whether the child is marked to retire, and then makes the MPM end it.
//! It never waits for Python. It also compares the memory of the child with its limits, and answers `wsgictl stack`,
//! even while the child ends.
//!
//! How a child retires:
//!
//! 1. If no other child serves, it asks for a successor, and waits until the successor is ready. It stays if the mark
//!    is removed before that.
//! 2. Its responses send `Connection: close`. It waits for the connections that were told earlier that they stay open,
//!    at most for `KeepAliveTimeout`.
//! 3. It refuses connections, so that the MPM ends it gracefully: requests that it has are answered. If no connection
//!    arrives that it could refuse, it makes one.

use std::time::{Duration, Instant};

use metrics::counter;
use wsgi_abi::FreeThreading;
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm::child_exit::end_as_it_is;
use wsgi_httpd::mpm::{self, LeaveBy, accept, connections, scoreboard};
use wsgi_telemetry::board::{ChildState, RetireReason};
use wsgi_telemetry::catalogue::Id;

use super::memory::MemoryWatch;
use super::recycle::Recycler;
use super::slot::{self, ChildSlot};
use super::{retire, stacks, steady};
use crate::config::inherited::Process;
use crate::config::plan;
use crate::engine::start;
use crate::log::{log_info, log_message};

/// How often the monitor checks the mark. Less often in servers with more than `MANY` children.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_OF_MANY: Duration = Duration::from_millis(200);
const MANY: u32 = 16;
/// How often the monitor checks while a change is due soon.
const CLOSE_LOOK: Duration = Duration::from_millis(2);
/// The longest wait for connections on which another request may arrive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the monitor waits for the MPM to call its accept function before it makes a connection: first and longest
/// wait.
const FIRST_DUMMY: Duration = Duration::from_millis(20);
const LAST_DUMMY: Duration = Duration::from_secs(1);
/// For how long the child must have had no work but requests that were given up.
const ONLY_STUCK: Duration = Duration::from_millis(200);
/// Name of the thread.
const THREAD: &str = "wsgi-monitor";
/// The highest number of connections that are made so that other children pass a lock on.
const LOCK_DUMMIES: u32 = 30;

/// Starts the monitor of a child that begins to serve, if the child has a slot on the board and the MPM lets children
/// leave.
pub(crate) fn start(process: &Process) {
    let (Some(slot), Ok(way)) = (slot::get(), LeaveBy::of_mpm()) else {
        return;
    };
    let is_asked = free_threading(&process.python) != FreeThreading::Off;
    if is_asked && start::engine().is_some() && !slot.in_force.is_over() {
        plan::enter(process, slot.board(), Some(start::has_gil()));
    }
    let mut recycler = Recycler::new(process.recycle);
    let mut memory = MemoryWatch::new(process.plan.clone());
    let monitor = ChildMonitor {
        slot,
        way,
        look: if process.plan.processes() > MANY {
            LOOK_OF_MANY
        } else {
            LOOK
        },
    };
    // `child_init` has blocked all signals, so they are blocked in the new thread, too.
    let run = move || {
        monitor.run(&mut recycler, &mut memory);
        monitor.wait_for_the_end()
    };
    if let Err(error) = steady::spawn(THREAD, run) {
        let follows = "this child will not be replaced";
        log_message(Message::NoThread, &[&THREAD, &error, &follows]);
    }
}

/// Answers a pending `wsgictl stack`, and sleeps for `time`.
fn pause(time: Duration) {
    stacks::look();
    std::thread::sleep(time);
}

struct ChildMonitor {
    slot: ChildSlot,
    way: LeaveBy,
    look: Duration,
}

impl ChildMonitor {
    fn run(&self, recycler: &mut Option<Recycler>, memory: &mut MemoryWatch) {
        let mut is_wrapped = self.way == LeaveBy::Signal;
        while !accept::is_leaving() {
            is_wrapped = is_wrapped || accept::wrap();
            if let Some(recycler) = recycler {
                recycler.look(&self.slot);
            }
            memory.look(&self.slot);
            retire::look(&self.slot);
            if is_wrapped && let Some(reason) = self.slot.entry().retire() {
                if self.wait_for_successor() {
                    return self.retire(reason);
                }
                if let Some(recycler) = recycler {
                    recycler.look_again();
                }
                continue;
            }
            pause(if is_wrapped { self.look } else { CLOSE_LOOK });
        }
        slot::say(ChildState::Draining);
    }

    /// Waits while the MPM ends this child, which it does once all workers are done.
    fn wait_for_the_end(&self) -> ! {
        let mut stuck = Stuck::default();
        loop {
            // `wsgictl stack` may ask a child that does not end.
            pause(self.look);
            stuck.look();
        }
    }

    /// Makes the MPM end this child.
    fn retire(&self, reason: RetireReason) {
        counter!(Id::ChildrenRecycles.name(), "reason" => reason.label()).increment(1);
        log_info(&format!("this child retires: {}", reason.text()));
        connections::begin_leaving();
        // With a deadlock, a request on a connection that stays open would wait for the GIL.
        if self.way == LeaveBy::Accept && reason != RetireReason::Deadlock {
            self.wait_for_connections();
        }
        let mut patience = FIRST_DUMMY;
        let mut dummy = Instant::now() + patience;
        let mut stuck = Stuck::default();
        while !accept::is_leaving() {
            accept::leave(self.way);
            // If all workers are stuck, the MPM neither accepts a connection nor handles a signal.
            stuck.look();
            if self.way == LeaveBy::Accept && Instant::now() >= dummy {
                // If it fails, the next round makes another one.
                let _ = accept::dummy_connection();
                patience = (patience * 2).min(LAST_DUMMY);
                dummy = Instant::now() + patience;
            }
            pause(CLOSE_LOOK);
        }
        slot::say(ChildState::Draining);
        if self.way == LeaveBy::Signal && accept::has_several_listeners() {
            self.pass_the_lock_on();
        }
    }

    /// Waits for the connections on which another request may still arrive.
    fn wait_for_connections(&self) {
        let until = Instant::now() + mpm::keep_alive_timeout().min(KEEP_ALIVE);
        while !accept::is_leaving() {
            let open = connections::open_before();
            // The connections of requests that were given up stay open on this side.
            if open <= requests_given_up() {
                return;
            }
            if Instant::now() >= until {
                return log_info(&format!(
                    "this child does not wait any longer for {open} open connections"
                ));
            }
            pause(CLOSE_LOOK);
        }
    }

    /// Makes connections, so that this child can end. Under prefork, a child takes a lock before it waits for a
    /// connection at one of several listeners, and this one cannot end before it has had the lock. Each connection
    /// passes the lock on to the next child, and at last to this one.
    fn pass_the_lock_on(&self) {
        let mut patience = FIRST_DUMMY;
        for _ in 0..LOCK_DUMMIES {
            pause(patience);
            let _ = accept::dummy_connection();
            patience = (patience * 2).min(LAST_DUMMY);
        }
    }

    /// If no other child serves, makes the parent start a successor first, provided it can. Returns whether this child
    /// may leave: `false` if the mark was removed.
    fn wait_for_successor(&self) -> bool {
        let mut has_asked = false;
        while !accept::is_leaving() && !self.slot.another_stays() {
            let Some(reason) = self.slot.entry().retire() else {
                scoreboard::stop_asking();
                return false;
            };
            // Children of another configuration serve now, or will soon.
            if self.slot.in_force.is_over() {
                break;
            }
            // The server has a single slot, which becomes free when this child ends.
            if !has_asked && self.slot.is_alone() && !scoreboard::has_room() {
                return true;
            }
            // Without room for a successor, children that all wait for one would never leave.
            if !scoreboard::has_room() && retire::give_way(&self.slot, reason) {
                scoreboard::stop_asking();
                return false;
            }
            scoreboard::ask_for_successor();
            has_asked = true;
            pause(self.look);
        }
        // A prefork child leaves only while its worker is idle, and asking has changed the worker's state.
        if self.way == LeaveBy::Signal {
            scoreboard::stop_asking();
        }
        true
    }
}

/// Returns the number of requests that were given up and whose threads have not returned. They may never return.
fn requests_given_up() -> usize {
    start::engine().map_or(0, |engine| engine.stuck() as usize)
}

/// Detects that a child that must end has no work left but requests that were given up.
#[derive(Default)]
struct Stuck {
    since: Option<Instant>,
}

impl Stuck {
    /// Ends the child without waiting for such requests, once it has had no other work for [`ONLY_STUCK`].
    fn look(&mut self) {
        let stuck = requests_given_up();
        // Worker gives the slot of an ending child to the next child before the former has ended.
        let work = || scoreboard::own_work().unwrap_or_else(connections::open);
        if stuck == 0 || work() > stuck {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= ONLY_STUCK {
            log_message(Message::EndsWithStuck, &[&stuck]);
            slot::say(ChildState::Draining);
            start::stop("");
            end_as_it_is();
        }
    }
}
