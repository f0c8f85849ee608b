//! The supervisor: the process that starts, replaces and ends the processes of groups.
//!
//! One supervisor belongs to one configuration. At a graceful restart the supervisor of the new configuration starts its
//! own processes first. When one is ready, it has the supervisor before it take the old process of that slot out of
//! service. The earlier supervisor ends when its processes have ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use wsgi_core::child::supervision::Action;
use wsgi_core::messages::Message;
use wsgi_httpd::helper::{Helper, ParentThread};
use wsgi_httpd::mpm::scoreboard;
use wsgi_telemetry::board::RetireReason;
use wsgi_telemetry::clock;

use super::groups::{self, Group};
use super::slot_run::{Key, Member, SlotRun};
use super::{segments, sockets};
use crate::log::log_message;
use crate::polling::is_readable;
use crate::reload::touch::Touch;

static HELPER: Helper = Helper::privileged(c"wsgi-groups", run, died);

/// How often the supervisor looks for requests of `wsgictl`, and for new code.
const LOOK: Duration = Duration::from_secs(1);
/// How often it looks whether processes have ended, where nothing tells.
const LOOK_AT_ENDS: Duration = Duration::from_millis(100);

/// What the parent hands from one supervisor to the next.
#[derive(Default)]
struct Handover {
    /// The other end of the connection to the supervisor that runs.
    link: Option<OwnedFd>,
    /// The slots of that supervisor.
    slots: Vec<Key>,
}

static PARENT: Mutex<Handover> = Mutex::new(Handover {
    link: None,
    slots: Vec::new(),
});

fn parent() -> MutexGuard<'static, Handover> {
    PARENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over from the supervisor of the configuration before, if there is one. Called when a configuration has come into
/// force.
pub(crate) fn prepare(thread: &ParentThread) {
    HELPER.prepare(thread);
    // At the first start, children and processes are started together.
    if scoreboard::exists() {
        start(thread);
    }
}

/// Starts the supervisor of the configuration in force, if it has process groups, and lets the one before go.
pub(crate) fn start(thread: &ParentThread) {
    let groups = groups::current();
    if HELPER.is_running() {
        return;
    }
    let predecessor = std::mem::take(&mut *parent());
    if groups.is_empty() {
        // The end of its connection tells the supervisor before that nothing follows.
        return;
    }
    let longest = groups
        .iter()
        .map(|group| group.config.shutdown_timeout())
        .max();
    HELPER.set_patience(longest.unwrap_or_default() + Duration::from_secs(2));
    let keep = descriptors(&groups, predecessor.link);
    let (link, keep) = match keep {
        Ok(made) => made,
        Err(error) => {
            log_message(Message::HelperStart, &[&"wsgi-groups", &error]);
            return;
        }
    };
    // The supervisor gets a copy of the lock, which must be free when it is forked.
    *parent() = Handover {
        link: Some(link),
        slots: predecessor.slots,
    };
    let logs: Vec<_> = groups.iter().map(|group| group.log).collect();
    if let Err(error) = HELPER.start(thread, keep, &logs) {
        log_message(Message::HelperStart, &[&"wsgi-groups", &error]);
    }
    parent().slots = keys(&groups).collect();
}

fn keys(groups: &[Arc<Group>]) -> impl Iterator<Item = Key> + '_ {
    groups
        .iter()
        .flat_map(|group| (0..group.slots.len()).map(|index| (group.config.name.clone(), index)))
}

/// Returns the parent's end of the connection to a new supervisor, and the descriptors of the supervisor: its end, the
/// connection to its predecessor, if there is one, and the listening sockets in the order of the slots.
fn descriptors(
    groups: &[Arc<Group>],
    predecessor: Option<OwnedFd>,
) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let (link, own) = messages()?;
    let mut keep = vec![own];
    keep.extend(predecessor);
    let addresses = groups.iter().flat_map(|group| &group.slots);
    keep.extend(sockets::listeners(addresses)?);
    Ok((link, keep))
}

/// Makes a connection that keeps the borders of messages.
fn messages() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Replaces a supervisor that has died, unless it died too soon.
fn died(thread: &ParentThread, pid: u32, how: &str) {
    log_message(Message::SupervisorDied, &[&pid, &how]);
    *parent() = Handover::default();
    if HELPER.has_lived() {
        start(thread);
    }
}

/// Replaces a supervisor that died too soon. Called about every ten seconds.
pub(crate) fn revive(thread: &ParentThread) {
    if HELPER.was_started() {
        start(thread);
    }
}

/// Closes this process's copy of the connection to the supervisor. For a child.
pub(crate) fn child_begins() {
    *parent() = Handover::default();
}

/// The body of the helper: works until `ending` is readable and all processes have ended, or until a later supervisor
/// has taken over.
fn run(ending: OwnedFd, keep: Vec<OwnedFd>) {
    sockets::forget();
    let before = std::mem::take(&mut *parent());
    std::mem::forget(before.link);
    let groups = groups::current();
    let slots: usize = groups.iter().map(|group| group.slots.len()).sum();
    let mut keep = keep.into_iter();
    let Some(own) = keep.next() else { return };
    let predecessor = if keep.len() > slots {
        keep.next()
    } else {
        None
    };
    let mut supervisor = Supervisor {
        pid: std::process::id(),
        began: Instant::now(),
        own: Some(own),
        predecessor,
        slots: Vec::with_capacity(slots),
        // All groups have the setting of the server.
        touch: groups
            .first()
            .and_then(|group| Touch::new(&group.process.reload, clock::unix())),
        is_stopping: false,
        is_succeeded: false,
    };
    for ((group, index), listener) in groups
        .iter()
        .flat_map(|group| (0..group.slots.len()).map(move |index| (group, index)))
        .zip(keep)
    {
        let key = (group.config.name.clone(), index);
        let has_predecessor = supervisor.predecessor.is_some() && before.slots.contains(&key);
        if !has_predecessor {
            segments::slot_is_empty(group, index);
        }
        let slot = SlotRun::new(group.clone(), key, listener, has_predecessor);
        supervisor.slots.push(slot);
    }
    if supervisor.predecessor.is_none() {
        groups.iter().for_each(|group| segments::free_gone(group));
    }
    supervisor.greet_predecessor();
    supervisor.work(&ending);
}

struct Supervisor {
    pid: u32,
    began: Instant,
    /// The connection by which a later supervisor speaks to this one.
    own: Option<OwnedFd>,
    /// The connection to the supervisor before this one.
    predecessor: Option<OwnedFd>,
    slots: Vec<SlotRun>,
    /// The file of `WSGIReload touch`.
    touch: Option<Touch>,
    is_stopping: bool,
    /// There is a later supervisor, to which `wsgictl` and connections without a process are left.
    is_succeeded: bool,
}

/// What one supervisor says to another: a letter, and a slot where the letter is about one.
mod letter {
    /// To the earlier one: there is a slot of this name in the new configuration.
    pub(super) const HAVE: u8 = b'H';
    /// To the earlier one: there are no more slots; those that were not named drain.
    pub(super) const NO_MORE: u8 = b'N';
    /// To the earlier one: the process of this slot shall take no more requests.
    pub(super) const DRAIN: u8 = b'D';
    /// From the earlier one: it takes no more requests.
    pub(super) const DRAINED: u8 = b'C';
}

fn message(letter: u8, key: Option<&Key>) -> Vec<u8> {
    let mut message = vec![letter];
    if let Some((name, index)) = key {
        message.extend_from_slice(format!("{index} {name}").as_bytes());
    }
    message
}

fn key_of(message: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(message.get(1..)?).ok()?;
    let (index, name) = text.split_once(' ')?;
    Some((name.into(), index.parse().ok()?))
}

impl Supervisor {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells the supervisor before this one which of its slots this one continues.
    fn greet_predecessor(&mut self) {
        let Some(predecessor) = &self.predecessor else {
            return;
        };
        let named = self
            .slots
            .iter()
            .map(|slot| message(letter::HAVE, Some(&slot.key)));
        let all = named.chain([message(letter::NO_MORE, None)]);
        // If it has ended, its slots are free, which reading from it will show.
        all.for_each(|message| {
            let _ = rustix::io::write(predecessor, &message);
        });
    }

    fn work(&mut self, ending: &OwnedFd) {
        let mut continued: Vec<Key> = Vec::new();
        loop {
            self.act();
            if self.slots.iter().all(|slot| slot.slot.is_over()) {
                return;
            }
            let ready = self.wait(ending);
            if ready.is_ending {
                self.is_stopping = true;
                self.slots.iter_mut().for_each(|slot| slot.slot.stop());
            }
            if ready.has_successor {
                self.hear_successor(&mut continued);
            }
            if ready.has_predecessor {
                self.hear_predecessor();
            }
            self.hear_members();
            self.hear_reloads();
        }
    }

    /// Replaces the processes of groups for which `wsgictl` has asked, or which have new code.
    fn hear_reloads(&mut self) {
        if self.is_succeeded || self.is_stopping {
            return;
        }
        let is_touched = self.touch.as_mut().and_then(Touch::look);
        let mut known: Vec<(String, Option<RetireReason>)> = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| !slot.slot.is_over()) {
            let name = &slot.group.config.name;
            let of_group = known.iter().find(|(known, _)| known == name);
            let reason = match of_group {
                Some((_, reason)) => *reason,
                None => {
                    let reason = slot.reload(is_touched.as_ref());
                    known.push((name.clone(), reason));
                    reason
                }
            };
            if let Some(reason) = reason {
                segments::count_reload(&slot.group, reason);
                slot.slot.renew();
            }
        }
    }

    /// Does everything that the slots ask for now.
    fn act(&mut self) {
        let now = self.now();
        for at in 0..self.slots.len() {
            while let Some(action) = self.slots[at].slot.next(now) {
                if action == Action::DrainPredecessor {
                    let message = message(letter::DRAIN, Some(&self.slots[at].key));
                    let sent = self
                        .predecessor
                        .as_ref()
                        .map(|to| rustix::io::write(to, &message));
                    if !matches!(sent, Some(Ok(_))) {
                        self.slots[at].slot.predecessor_left();
                    }
                    continue;
                }
                self.slots[at].act(action, self.pid, now);
            }
            // A later supervisor waits for this.
            let slot = &mut self.slots[at];
            if slot.was_asked && !slot.slot.takes_requests() {
                slot.was_asked = false;
                if let Some(own) = &self.own {
                    let _ = rustix::io::write(own, &message(letter::DRAINED, Some(&slot.key)));
                }
            }
        }
    }

    /// Waits until something happens.
    fn wait(&self, ending: &OwnedFd) -> Ready {
        let due = self.slots.iter().filter_map(|slot| slot.slot.due()).min();
        let mut members = self.slots.iter().flat_map(|slot| &slot.members);
        let look = if members.any(Member::ends_unseen) {
            LOOK_AT_ENDS
        } else {
            LOOK
        };
        let pause = due.map_or(look, |due| due.saturating_sub(self.now()).min(look));
        let pause = Timespec::try_from(pause).ok();
        // The signal that ends this process stays readable.
        let ending = (!self.is_stopping).then_some(ending);
        let links = [ending, self.own.as_ref(), self.predecessor.as_ref()];
        let opened = links.into_iter().flatten().map(AsFd::as_fd);
        let members = self.slots.iter().flat_map(|slot| &slot.members);
        let of_members = members.flat_map(|member| {
            let ends = [&member.end, &member.control];
            ends.into_iter().flatten().map(AsFd::as_fd)
        });
        let awaited = self
            .slots
            .iter()
            .filter(|slot| slot.slot.sleeps() || slot.slot.is_down() && !self.is_succeeded);
        let of_awaited = awaited.map(|slot| slot.listener.as_fd());
        let mut polled: Vec<PollFd<'_>> = opened
            .chain(of_members)
            .chain(of_awaited)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let is_ready = poll(&mut polled, pause.as_ref()).is_ok();
        let mut happened = polled
            .iter()
            .map(|polled| is_ready && !polled.revents().is_empty());
        Ready {
            is_ending: ending.is_some() && happened.next() == Some(true),
            has_successor: self.own.is_some() && happened.next() == Some(true),
            has_predecessor: self.predecessor.is_some() && happened.next() == Some(true),
        }
    }

    /// Hears what a later supervisor says, or that there will be none.
    fn hear_successor(&mut self, continued: &mut Vec<Key>) {
        let Some(own) = &self.own else { return };
        self.is_succeeded = true;
        let mut buffer = [0; 4096];
        let count = match rustix::io::read(own, &mut buffer) {
            Ok(0) | Err(_) => {
                // The parent has let go of this supervisor, or the later one has ended.
                self.own = None;
                self.slots.iter_mut().for_each(|slot| slot.slot.retire());
                return;
            }
            Ok(count) => count,
        };
        let said = &buffer[..count];
        match (said.first(), key_of(said)) {
            (Some(&letter::HAVE), Some(key)) => {
                // A slot without a process to drain needs none of the earlier configuration.
                let mut slots = self.slots.iter_mut();
                if let Some(slot) =
                    slots.find(|slot| slot.key == key && !slot.slot.takes_requests())
                {
                    slot.slot.retire();
                    slot.was_asked = true;
                }
                continued.push(key);
            }
            (Some(&letter::NO_MORE), _) => {
                let gone = self
                    .slots
                    .iter_mut()
                    .filter(|slot| !continued.contains(&slot.key));
                gone.for_each(|slot| slot.slot.retire());
            }
            (Some(&letter::DRAIN), Some(key)) => {
                match self.slots.iter_mut().find(|slot| slot.key == key) {
                    Some(slot) => {
                        slot.slot.retire();
                        slot.was_asked = true;
                    }
                    None => {
                        let _ = rustix::io::write(own, &message(letter::DRAINED, Some(&key)));
                    }
                }
            }
            _ => {}
        }
    }

    /// Hears what the supervisor before this one answers.
    fn hear_predecessor(&mut self) {
        let Some(predecessor) = &self.predecessor else {
            return;
        };
        let mut buffer = [0; 4096];
        match rustix::io::read(predecessor, &mut buffer) {
            Ok(0) | Err(_) => {
                self.predecessor = None;
                self.slots
                    .iter_mut()
                    .for_each(|slot| slot.slot.predecessor_left());
            }
            Ok(count) => {
                let said = &buffer[..count];
                if said.first() == Some(&letter::DRAINED)
                    && let Some(key) = key_of(said)
                    && let Some(slot) = self.slots.iter_mut().find(|slot| slot.key == key)
                {
                    slot.slot.predecessor_left();
                }
            }
        }
    }

    /// Hears the processes, and notes which have ended.
    fn hear_members(&mut self) {
        let now = self.now();
        for slot in &mut self.slots {
            slot.hear(now);
            if slot.slot.sleeps() && is_readable(&slot.listener) {
                slot.slot.wake();
            }
            if slot.slot.is_down() && !self.is_succeeded {
                slot.refuse();
            }
        }
    }
}

struct Ready {
    is_ending: bool,
    has_successor: bool,
    has_predecessor: bool,
}
