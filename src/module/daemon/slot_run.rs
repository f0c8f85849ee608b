//! A slot of a group with its processes: starts, signals and reaps them as `wsgi_core::child::supervision` decides.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use wsgi_core::child::supervision::{Action, Part, Slot, Windows};
use wsgi_core::messages::Message;
use wsgi_httpd::reaped::End;
use wsgi_httpd::{forked, group_process};
use wsgi_telemetry::board::{ReloadRequest, RetireReason};
use wsgi_wire::{Connection, send_go_away};

use super::groups::Group;
use super::{control, process, segments};
use crate::log::{log_info, log_message};
use crate::polling::is_readable;

/// How much longer than a process itself the supervisor waits for each step of its start. The process knows what hangs.
const PROCESS_FIRST: Duration = Duration::from_secs(10);
/// A script of `threads=0` that ends earlier than this is run again only after a pause.
const SHORTEST: Duration = Duration::from_secs(2);
/// Most connections to a slot that are refused at a time.
const REFUSED_AT_A_TIME: usize = 256;
/// How long the supervisor may take to refuse a connection. Its few bytes always find room.
const REFUSAL: Duration = Duration::from_secs(1);

/// A slot: the name of its group, and its number.
pub(super) type Key = (String, usize);

/// A slot, and what belongs to it.
pub(super) struct SlotRun {
    pub(super) group: Arc<Group>,
    pub(super) key: Key,
    pub(super) listener: OwnedFd,
    pub(super) slot: Slot<u32>,
    /// A later supervisor waits until no process of the slot takes requests.
    pub(super) was_asked: bool,
    pub(super) members: Vec<Member>,
}

/// A process of a slot.
pub(super) struct Member {
    pid: u32,
    /// The connection to the process; `None` once the process has closed it.
    pub(super) control: Option<OwnedFd>,
    /// Readable when the process has ended; `None` where the system has no such descriptors (Linux before 5.3).
    pub(super) end: Option<OwnedFd>,
}

impl SlotRun {
    /// Returns the slot, which has no process yet. `has_predecessor`: whether an earlier supervisor has one.
    pub(super) fn new(
        group: Arc<Group>,
        key: Key,
        listener: OwnedFd,
        has_predecessor: bool,
    ) -> Self {
        let windows = Windows {
            shortest: group.config.is_service().then_some(SHORTEST),
            startup: startup_window(&group),
            drain: group.config.graceful_timeout(),
            eviction: group.config.eviction_timeout(),
            shutdown: group.config.shutdown_timeout(),
        };
        Self {
            group,
            key,
            listener,
            slot: Slot::new(windows, has_predecessor),
            was_asked: false,
            members: Vec::new(),
        }
    }

    /// Returns why all processes of the slot's group must be replaced, if they must. `touched` is there if the file of
    /// `WSGIReload touch` was touched.
    pub(super) fn reload(&self, touched: Option<&ReloadRequest>) -> Option<RetireReason> {
        let asked = segments::take_reloads(&self.group);
        let (reason, what) = match (asked, touched) {
            (Some(asked), _) => asked,
            (None, Some(touched)) => {
                segments::begin_reload(&self.group, touched.reason);
                (touched.reason, format!("{} was touched", touched.what))
            }
            (None, None) => return None,
        };
        let name = &self.group.config.name;
        log_info(&format!(
            "process group '{name}' replaces its processes: {what}"
        ));
        Some(reason)
    }

    pub(super) fn act(&mut self, action: Action<u32>, supervisor: u32, now: Duration) {
        match action {
            Action::Start => match self.start(supervisor) {
                Ok(pid) => {
                    log_info(&format!(
                        "process {pid} of process group '{}' starts",
                        self.group.config.name
                    ));
                    segments::process_started(&self.group);
                    self.slot.started(pid, now);
                }
                Err(error) => {
                    log_message(Message::GroupStart, &[&self.group.config.name, &error]);
                    self.slot.failed_to_start(now, control::random());
                }
            },
            Action::Serve(pid) => self.say(pid, control::SERVE),
            Action::Drain(pid) => self.say(pid, control::DRAIN),
            Action::Stop(pid) => signal(pid, Signal::TERM),
            Action::Kill(pid) => signal(pid, Signal::KILL),
            Action::GiveUp(pid) => {
                let name = &self.group.config.name;
                log_message(Message::GroupStartKilled, &[&pid, name]);
                signal(pid, Signal::KILL);
            }
            Action::DrainPredecessor => {}
        }
    }

    /// Forks a process.
    fn start(&mut self, supervisor: u32) -> io::Result<u32> {
        let (control, its_control) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (group, slot) = (self.group.clone(), self.key.1);
        let (listener, its_control) = (self.listener.as_fd(), its_control.as_fd());
        let (keep, log) = ([listener, its_control], group.log);
        let pid = group_process::start(c"wsgi-group", &keep, log, |alone| {
            process::run(alone, group, slot, supervisor, listener, its_control)
        })?;
        let end = pid_of(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        self.members.push(Member {
            pid,
            control: Some(control),
            end,
        });
        Ok(pid)
    }

    /// Refuses the connections that wait, as no process will take them soon.
    pub(super) fn refuse(&self) {
        for _ in 0..REFUSED_AT_A_TIME {
            let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) else {
                return;
            };
            if let Ok(connection) = Connection::new(socket, REFUSAL, forked::is_copy) {
                // An error means that the child has gone.
                let _ = send_go_away(&connection);
            }
        }
    }

    fn say(&self, pid: u32, word: u8) {
        let member = self.members.iter().find(|member| member.pid == pid);
        if let Some(control) = member.and_then(|member| member.control.as_ref()) {
            // If the process has ended, its end is seen next.
            let _ = rustix::io::write(control, &[word]);
        }
    }

    pub(super) fn hear(&mut self, now: Duration) {
        for at in (0..self.members.len()).rev() {
            let member = &mut self.members[at];
            if let Some(control) = member.control.as_ref().filter(is_readable) {
                let mut words = [0; 16];
                let read = rustix::io::read(control, &mut words);
                if read == Ok(0) {
                    // It has ended, or it has become another program, which serves nothing.
                    member.control = None;
                    signal(member.pid, Signal::KILL);
                }
                let count = read.unwrap_or(0);
                for &word in &words[..count] {
                    match word {
                        control::READY => self.slot.ready(member.pid, now),
                        control::CONFIRMED => self.slot.confirmed(member.pid, now),
                        control::STEP => self.slot.steps(member.pid, now),
                        control::REPLACE => self.slot.replace(member.pid),
                        control::RENEW => {
                            self.slot.renew_for(member.pid);
                        }
                        control::EVICT => self.slot.evict(member.pid),
                        control::IDLE => self.slot.sleep(member.pid),
                        // Only wakes the supervisor, which looks at the boards.
                        control::NEWS => {}
                        _ => {}
                    }
                }
            }
            if member.end.as_ref().is_some_and(|end| !is_readable(end)) {
                continue;
            }
            let ended = pid_of(member.pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
            let status = match ended {
                Some(Ok(Some((_, status)))) => Some(status),
                Some(Ok(None)) if member.end.is_none() => continue,
                _ => None,
            };
            let member = self.members.remove(at);
            let is_clean = status.is_some_and(|status| status.exit_status() == Some(0));
            let ran = segments::what_ran(&self.group, member.pid);
            segments::process_ended(&self.group, member.pid, is_clean);
            let how = End::in_words(status.and_then(|status| {
                let exited = status
                    .exit_status()
                    .and_then(|status| status.try_into().ok());
                let signal = status.terminating_signal();
                exited.map(End::Status).or(signal.map(End::Signal))
            }));
            let name = &self.group.config.name;
            let pid = member.pid;
            // A process that ends by itself while it drains has only requests that were given up.
            let is_cut = ran.is_any && !self.slot.is_stopping();
            match self.slot.ended(pid, now, control::random()) {
                Some(Part::Starting) => {
                    log_message(Message::GroupStartFailed, &[&pid, name, &how]);
                }
                Some(Part::Serving) => {
                    log_message(
                        Message::GroupProcessDied,
                        &[&pid, name, &how, &ran.in_words],
                    );
                    segments::note_death(&self.group, pid, &how, &ran);
                }
                Some(part) if is_cut && (part == Part::Stopped || !is_clean) => {
                    log_message(
                        Message::GroupRequestsCut,
                        &[&pid, name, &how, &ran.in_words],
                    );
                    segments::note_death(&self.group, pid, &how, &ran);
                }
                Some(Part::Leaving | Part::Stopped) | None => log_info(&format!(
                    "process {pid} of process group '{name}' has ended {how}"
                )),
            }
            if self.slot.is_empty() {
                segments::slot_is_empty(&self.group, self.key.1);
            }
        }
    }
}

impl Member {
    /// Whether nothing tells of the end of the process, so that the supervisor has to look.
    pub(super) fn ends_unseen(&self) -> bool {
        self.end.is_none()
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.cast_signed())
}

/// Sends a signal to a process that has not been waited for.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        // If it has ended, its end is seen next.
        let _ = kill_process(pid, signal);
    }
}

/// Returns how long a step of the start of a process may take: the longest time that a setting gives to any of them;
/// `None` for no limit.
fn startup_window(group: &Group) -> Option<Duration> {
    let process = &group.process;
    let of_applications = process.groups.iter().map(|name| {
        let options = process.group_options(&String::from_utf8_lossy(name));
        options.startup_timeout
    });
    let longest = of_applications
        .chain([process.python.startup_timeout()])
        .try_fold(Duration::ZERO, |longest, limit| Some(longest.max(limit?)));
    Some(longest? + PROCESS_FIRST)
}
