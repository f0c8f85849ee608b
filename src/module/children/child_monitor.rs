//! The keeper of a child: a thread that sees whether the child is to retire, and has the MPM end it then. It never waits
//! for Python. It also looks at the memory of the child, and all the time, also while the child ends, it sees whether
//! somebody wants to know what its threads run.
//!
//! How a child retires:
//!
//! 1. Where it is the only one that serves, it asks for its successor, and waits until that is ready. Where the mark is
//!    taken back meanwhile, it stays.
//! 2. Its responses say `Connection: close`. It waits for the connections whose clients were told otherwise, at most as
//!    long as such a connection is kept.
//! 3. It refuses connections, which ends it by the MPM's own graceful path, whatever requests it still answers. Where no
//!    connection comes, it makes one.

use std::time::{Duration, Instant};

use wsgi_core::messages::Message;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::mpm::{self, connections, scoreboard};
use wsgi_httpd::mpm::{LeaveBy, accept};
use wsgi_telemetry::board::{ChildState, RetireReason};

use crate::children::life;
use crate::children::memory::MemoryWatch;
use crate::children::recycle::Recycler;
use crate::children::retire;
use crate::children::slot::{self, Place};
use crate::children::stacks;
use crate::config::inherited::{self, Process, log_message};
use crate::config::plan;

/// How often the keeper looks at the mark; in servers with many children less often.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_OF_MANY: Duration = Duration::from_millis(200);
const MANY: u32 = 16;
/// How often it looks while something is about to happen.
const CLOSE_LOOK: Duration = Duration::from_millis(2);
/// Longest time for which connections are waited for that may be asked by.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the MPM may take to look at its accept function before it is given a connection, at first and at last.
const FIRST_DUMMY: Duration = Duration::from_millis(20);
const LAST_DUMMY: Duration = Duration::from_secs(1);
/// For how long only requests that were given up must be found to be left.
const ONLY_STUCK: Duration = Duration::from_millis(200);
/// Most connections that are made for the sake of a lock.
const LOCK_DUMMIES: u32 = 30;

/// The child begins to serve: starts its keeper, where it has a place on the board and the MPM lets children leave.
pub(crate) fn start(process: &Process) {
    let (Some(place), Ok(way)) = (slot::get(), LeaveBy::of_mpm()) else {
        return;
    };
    plan::enter_again(process, &place);
    let mut recycler = Recycler::new(process.recycle);
    let mut memory = MemoryWatch::new(process.plan);
    let keeper = Keeper {
        place,
        way,
        look: if process.plan.processes() > MANY {
            LOOK_OF_MANY
        } else {
            LOOK
        },
    };
    // All signals are blocked in this thread, as they are during `child_init`.
    let run = move || {
        keeper.run(&mut recycler, &mut memory);
        keeper.wait_for_the_end()
    };
    if let Err(error) = inherited::steady("wsgi-keeper", run) {
        let line = format!("mod_wsgi_rs: this child cannot be replaced: no thread for it: {error}");
        log::server(Level::Error, line.as_bytes());
    }
}

/// Lets some time pass.
fn pause(time: Duration) {
    stacks::look();
    std::thread::sleep(time);
}

struct Keeper {
    place: Place,
    way: LeaveBy,
    look: Duration,
}

impl Keeper {
    fn run(&self, recycler: &mut Option<Recycler>, memory: &mut MemoryWatch) {
        let mut is_wrapped = self.way == LeaveBy::Signal;
        while !accept::is_leaving() {
            is_wrapped = is_wrapped || accept::wrap();
            if let Some(recycler) = recycler {
                recycler.look(&self.place);
            }
            memory.look(&self.place);
            retire::look(&self.place);
            if is_wrapped && let Some(reason) = self.place.slot().retire() {
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
            // A child that does not come to its end is one of those that are asked.
            pause(self.look);
            stuck.look();
        }
    }

    /// Has the MPM end this child.
    fn retire(&self, reason: RetireReason) {
        self.place.slot().count_leaving(reason);
        let line = format!("mod_wsgi_rs: this child retires: {}", reason.text());
        log::server(Level::Info, line.as_bytes());
        connections::begin_leaving();
        // Who comes by a connection that stays would wait for the GIL.
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
                // One that fails is made again.
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

    /// Waits for the connections whose clients may still ask by them.
    fn wait_for_connections(&self) {
        let until = Instant::now() + mpm::keep_alive_timeout().min(KEEP_ALIVE);
        while !accept::is_leaving() {
            let open = connections::open_before();
            // Those of requests that were given up stay open on this side.
            if open <= requests_given_up() {
                return;
            }
            if Instant::now() >= until {
                let line = format!(
                    "mod_wsgi_rs: this child does not wait any longer for {open} open connections"
                );
                return log::server(Level::Info, line.as_bytes());
            }
            pause(CLOSE_LOOK);
        }
    }

    /// Under prefork, children wait for a lock before they wait for a connection at one of several listeners: with each
    /// connection it comes to the next one, and in time to this child, which cannot end before.
    fn pass_the_lock_on(&self) {
        let mut patience = FIRST_DUMMY;
        for _ in 0..LOCK_DUMMIES {
            pause(patience);
            let _ = accept::dummy_connection();
            patience = (patience * 2).min(LAST_DUMMY);
        }
    }

    /// Where nobody else serves, has the parent start a successor first, if it has one to give. Whether the child may leave:
    /// not where the mark was taken back.
    fn wait_for_successor(&self) -> bool {
        let mut has_asked = false;
        while !accept::is_leaving() && !self.place.another_stays() {
            if self.place.slot().retire().is_none() {
                scoreboard::stop_asking();
                return false;
            }
            // Children of another configuration serve by now, or will.
            if self.place.in_force.is_over() {
                break;
            }
            // The only place that the server has becomes free by leaving it.
            if !has_asked && self.place.is_alone() && !scoreboard::has_room() {
                return true;
            }
            scoreboard::ask_for_successor();
            has_asked = true;
            pause(self.look);
        }
        // It is left by the state of the worker, which is what was used to ask.
        if self.way == LeaveBy::Signal {
            scoreboard::stop_asking();
        }
        true
    }
}

/// Requests that were given up and have not come back, which they may never do.
fn requests_given_up() -> usize {
    life::engine().map_or(0, |engine| engine.stuck() as usize)
}

/// Sees whether a child that is to end works at nothing else any more.
#[derive(Default)]
struct Stuck {
    since: Option<Instant>,
}

impl Stuck {
    /// Ends the child without them, if that has been so for a while.
    fn look(&mut self) {
        let stuck = requests_given_up();
        // Worker gives the place of a child that ends to the next one, before it has ended.
        let work = || scoreboard::own_work().unwrap_or_else(connections::open);
        if stuck == 0 || work() > stuck {
            self.since = None;
        } else if self.since.get_or_insert_with(Instant::now).elapsed() >= ONLY_STUCK {
            log_message(Message::EndsWithStuck, &[&stuck]);
            slot::say(ChildState::Draining);
            life::stop();
            wsgi_httpd::mpm::child_exit::end_as_it_is();
        }
    }
}
