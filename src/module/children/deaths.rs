//! Children that have ended: the parent frees their slots on the board and their arenas in the segment, and reports an
//! unexpected end.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::counter;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm;
use wsgi_httpd::reaped::End;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{Ended, Running, Segment, install_recorder, writer};

use crate::log::log_message;
use crate::metrics::{parent, segment, what_ran};

/// Frees what belonged to children that ended while httpd ran without the module. Called when a new configuration is in
/// force.
pub(crate) fn free_gone() {
    let Some(segment) = parent::known_segment() else {
        return;
    };
    if segment.geometry().records() {
        // Counts the exits of these children: `parent::prepare` installs the recorder only afterwards.
        install_recorder(segment, &writer::OfThisProcess);
    }
    for pid in segment.owners_gone() {
        child_ended(pid, None);
    }
}

/// Children that were started while metrics were on, and that have not ended.
static COUNTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn counted() -> MutexGuard<'static, BTreeSet<u32>> {
    COUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a child that was started, once.
pub(crate) fn child_started(pid: u32) {
    if segment::current().is_some() && counted().insert(pid) {
        counter!(Id::ChildrenStarted.name()).increment(1);
    }
}

/// Frees and counts a child that was reaped: it can no longer write to its arenas, so other children may get them.
pub(crate) fn child_ended(pid: u32, how: Option<End>) {
    let Some(segment) = parent::known_segment() else {
        return;
    };
    let was_draining = segment.board().is_draining(pid);
    segment.board().free(pid);
    let was_counted = counted().remove(&pid);
    let running = what_ran::of(segment, pid);
    let ended = segment.free_arenas_of(pid);
    let had_said = was_draining.or(ended.map(|ended| ended == Ended::Clean));
    if is_unexpected(how, had_said, !running.is_empty()) && !mpm::is_stopping() {
        tell_of_death(segment, pid, how, &running);
    }
    let how = match ended {
        Some(Ended::Clean) => Some("clean"),
        Some(Ended::Killed) => Some("killed"),
        // The child ended before it could take an arena, or no arena was left: nothing shows that it ended in order.
        None => was_counted.then_some("killed"),
    };
    if let Some(how) = how {
        counter!(Id::ChildrenExited.name(), "how" => how).increment(1);
    }
    let freed = segment.reclaim(pid);
    for group in segment::groups().iter() {
        freed
            .iter()
            .for_each(|app| group.segment.forget_application(*app));
    }
}

/// Returns whether the end of a child must be reported. `had_said`: whether the child had announced its end; `None` if
/// it had only started and announced nothing at all. `was_running`: whether it ran requests.
fn is_unexpected(how: Option<End>, had_said: Option<bool>, was_running: bool) -> bool {
    /// The `APEXIT_` statuses of `http_main.h` and `httpd.h`: with these, a child says that it cannot go on; httpd logs
    /// why.
    const OF_HTTPD: [u8; 3] = [2, 7, 15];
    match how {
        // The parent ends children with these signals.
        Some(End::Signal(libc::SIGTERM | libc::SIGHUP | libc::SIGUSR1)) => {
            had_said != Some(true) && was_running
        }
        // A child that is ending may crash, too.
        Some(End::Signal(_)) => true,
        Some(End::Status(0)) | None => had_said == Some(false),
        Some(End::Status(status)) => {
            had_said == Some(false) || was_running && !OF_HTTPD.contains(&status)
        }
    }
}

/// Reports a child that has ended unexpectedly. The requests that it ran are known only from what the child itself has
/// written, so they may be wrong.
fn tell_of_death(segment: Segment, pid: u32, how: Option<End>, running: &[Running]) {
    let how = End::in_words(how);
    let running = what_ran::in_words(segment, running);
    log_message(Message::ChildDied, &[&pid, &how, &running]);
    segment.note_death(pid, &how, &running);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unexpected() {
        let (status, signal) = (|with| Some(End::Status(with)), |by| Some(End::Signal(by)));
        for (how, had_said, was_running, expected) in [
            // A graceful end, and os._exit() and the like.
            (status(0), Some(true), false, false),
            (status(0), Some(false), false, true),
            (status(0), Some(false), true, true),
            (status(3), Some(false), false, true),
            (status(3), Some(true), true, true),
            (status(3), Some(true), false, false),
            // The child cannot go on, and httpd itself says so.
            (status(7), Some(true), true, false),
            // The child had only started.
            (status(0), None, false, false),
            (None, None, false, false),
            // Crashes.
            (signal(libc::SIGSEGV), Some(true), false, true),
            (signal(libc::SIGKILL), Some(false), false, true),
            (signal(libc::SIGABRT), None, false, true),
            // Signals of the parent.
            (signal(libc::SIGTERM), Some(false), false, false),
            (signal(libc::SIGTERM), Some(false), true, true),
            (signal(libc::SIGTERM), Some(true), true, false),
            // It is unknown how the child ended.
            (None, Some(false), true, true),
            (None, Some(true), true, false),
        ] {
            let found = is_unexpected(how, had_said, was_running);
            assert_eq!(found, expected, "{how:?} {had_said:?} {was_running}");
        }
    }
}
