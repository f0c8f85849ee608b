//! The monitor of a child: a thread that looks whether the child has been marked to retire, and then has the MPM end it. It
//! never waits for Python. It also compares the memory of the child with its limits, and answers `wsgictl stack`, also while
//! the child ends.
//!
//! How a child retires:
//!
//! 1. A child that is the only one to serve asks for a successor, and waits until that is ready. It stays if the mark is
//!    taken back meanwhile.
//! 2. Its responses say `Connection: close`. It waits for the connections whose clients were told otherwise before, at most
//!    for `KeepAliveTimeout`.
//! 3. It refuses connections, so that the MPM ends it gracefully: requests that it has are answered. Where no connection
//!    comes that it could refuse, it makes one.

use std::time::{Duration, Instant};

use wsgi_abi::FreeThreading;
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm::child_exit::end_as_it_is;
use wsgi_httpd::mpm::{self, LeaveBy, accept, connections, scoreboard};
use wsgi_telemetry::board::{ChildState, RetireReason};

use super::memory::MemoryWatch;
use super::recycle::Recycler;
use super::slot::{self, ChildSlot};
use super::{retire, stacks, steady};
use crate::config::inherited::Process;
use crate::config::plan;
use crate::engine::start;
use crate::log::{log_info, log_message};

/// How often the monitor looks at the mark; in servers with many children less often.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_OF_MANY: Duration = Duration::from_millis(200);
const MANY: u32 = 16;
/// How often it looks while something is about to happen.
const CLOSE_LOOK: Duration = Duration::from_millis(2);
/// The longest wait for connections on which another request may come.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the MPM may take to look at its accept function before the monitor makes a connection, at first and at last.
const FIRST_DUMMY: Duration = Duration::from_millis(20);
const LAST_DUMMY: Duration = Duration::from_secs(1);
/// For how long the child must have found nothing but requests that were given up.
const ONLY_STUCK: Duration = Duration::from_millis(200);
/// Name of the thread.
const THREAD: &str = "wsgi-monitor";
/// Most connections that are made so that other children pass a lock on.
const LOCK_DUMMIES: u32 = 30;

/// The child begins to serve: starts its monitor, where it has a slot on the board and the MPM lets children leave.
pub(crate) fn start(process: &Process) {
    let (Some(slot), Ok(way)) = (slot::get(), LeaveBy::of_mpm()) else {
        return;
    };
    let is_asked = free_threading(&process.python) != FreeThreading::Off;
    if is_asked && start::engine().is_some() && !slot.in_force.is_over() {
        plan::enter(process, slot.board(), Some(start::has_gil()));
    }
    let mut recycler = Recycler::new(process.recycle);
    let mut memory = MemoryWatch::new(process.plan);
    let monitor = ChildMonitor {
        slot,
        way,
        look: if process.plan.processes() > MANY {
            LOOK_OF_MANY
        } else {
            LOOK
        },
    };
    // All signals are blocked in this thread, as they are during `child_init`.
    let run = move || {
        monitor.run(&mut recycler, &mut memory);
        monitor.wait_for_the_end()
    };
    if let Err(error) = steady::spawn(THREAD, run) {
        let follows = "this child will not be replaced";
        log_message(Message::NoThread, &[&THREAD, &error, &follows]);
    }
}

/// Lets some time pass.
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
                continue;
            }
            pause(if is_wrapped { self.look } else { CLOSE_LOOK });
        }
        slot::say(ChildState::Draining);
    }

    /// The MPM ends this child, once all workers are done.
    fn wait_for_the_end(&self) -> ! {
        let mut stuck = Stuck::default();
        loop {
            // `wsgictl stack` may ask a child that does not come to its end.
            pause(self.look);
            stuck.look();
        }
    }

    /// Has the MPM end this child.
    fn retire(&self, reason: RetireReason) {
        self.slot.entry().count_leaving(reason);
        log_info(&format!("this child retires: {}", reason.text()));
        connections::begin_leaving();
        // A request on a connection that stays would wait for the GIL.
        if self.way == LeaveBy::Accept && reason != RetireReason::Deadlock {
            self.wait_for_connections();
        }
        let mut patience = FIRST_DUMMY;
        let mut dummy = Instant::now() + patience;
        let mut stuck = Stuck::default();
        while !accept::is_leaving() {
            accept::leave(self.way);
            // Where all workers are stuck, the MPM never looks for a connection, nor at a signal.
            stuck.look();
            if self.way == LeaveBy::Accept && Instant::now() >= dummy {
                // A connection that fails is made again.
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

    /// Waits for the connections on which another request may still come.
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

    /// Under prefork, a child takes a lock before it waits for a connection at one of several listeners. Each connection passes
    /// the lock on to the next child, and in time to this one, which cannot end before it has had it.
    fn pass_the_lock_on(&self) {
        let mut patience = FIRST_DUMMY;
        for _ in 0..LOCK_DUMMIES {
            pause(patience);
            let _ = accept::dummy_connection();
            patience = (patience * 2).min(LAST_DUMMY);
        }
    }

    /// Where no other child serves, has the parent start a successor first, if it has one to give. Returns whether the child may
    /// leave: not where the mark was taken back.
    fn wait_for_successor(&self) -> bool {
        let mut has_asked = false;
        while !accept::is_leaving() && !self.slot.another_stays() {
            if self.slot.entry().retire().is_none() {
                scoreboard::stop_asking();
                return false;
            }
            // Children of another configuration serve by now, or will.
            if self.slot.in_force.is_over() {
                break;
            }
            // The only slot that the server has becomes free when this child ends.
            if !has_asked && self.slot.is_alone() && !scoreboard::has_room() {
                return true;
            }
            scoreboard::ask_for_successor();
            has_asked = true;
            pause(self.look);
        }
        // The child leaves by the state of its worker, which was used to ask.
        if self.way == LeaveBy::Signal {
            scoreboard::stop_asking();
        }
        true
    }
}

/// Requests that were given up and have not come back, which they may never do.
fn requests_given_up() -> usize {
    start::engine().map_or(0, |engine| engine.stuck() as usize)
}

/// Sees whether a child that is to end has nothing left but requests that were given up.
#[derive(Default)]
struct Stuck {
    since: Option<Instant>,
}

impl Stuck {
    /// Ends the child without them, once that has been so for a while.
    fn look(&mut self) {
        let stuck = requests_given_up();
        // The worker MPM gives the slot of an ending child to the next one before the child has ended.
        let work = || scoreboard::own_work().unwrap_or_else(connections::open);
        if stuck == 0 || work() > stuck {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= ONLY_STUCK {
            log_message(Message::EndsWithStuck, &[&stuck]);
            slot::say(ChildState::Draining);
            start::stop();
            end_as_it_is();
        }
    }
}
