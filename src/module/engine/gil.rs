//! The GIL of application groups under `WSGIGILMode auto`: one child tries a GIL per interpreter, and the others adopt its
//! finding.

use std::time::{Duration, Instant};

use wsgi_abi::GilDecision;
use wsgi_core::messages::Message;
use wsgi_telemetry::board::{GroupDecision, GroupSlot};

use crate::log::{log_info, log_message};
use crate::metrics::segment;

/// How long a child waits for another one that tries, a little longer than an attempt may take.
const PATIENCE: Duration = Duration::from_secs(70);
const POLL: Duration = Duration::from_millis(10);

/// Returns what is known about a group. Waits while another process tries.
pub(crate) fn choice(group: &[u8]) -> GilDecision {
    let slot = segment::in_force().and_then(|in_force| {
        let slot = in_force.segment.board().group(group)?;
        Some((slot, in_force.me()))
    });
    // Without a slot on the board, each child tries for itself.
    let Some((slot, me)) = slot else {
        return GilDecision::Unknown;
    };
    let until = Instant::now() + PATIENCE;
    let mut is_other = false;
    loop {
        if slot.begin_probe(me) {
            return GilDecision::Unknown;
        }
        match slot.decision() {
            GroupDecision::Own => return GilDecision::Own,
            GroupDecision::Shared => {
                if is_other {
                    tell(&slot, group);
                }
                return GilDecision::Shared;
            }
            // The finding was withdrawn.
            GroupDecision::Unknown => {}
            // This process has asked before, for the same group.
            GroupDecision::Probing { pid, .. } if pid == me.pid => return GilDecision::Unknown,
            GroupDecision::Probing { .. } => is_other = true,
        }
        if Instant::now() >= until {
            log_message(Message::GilUndecided, &[&named(group), &PATIENCE.as_secs()]);
            return GilDecision::Shared;
        }
        std::thread::sleep(POLL);
    }
}

/// Notes what this process has found.
pub(crate) fn chosen(group: &[u8], choice: GilDecision, module: &[u8]) {
    let choice = match choice {
        GilDecision::Own => GroupDecision::Own,
        GilDecision::Shared => GroupDecision::Shared,
        GilDecision::Unknown => GroupDecision::Unknown,
    };
    if let Some(in_force) = segment::in_force()
        && let Some(slot) = in_force.segment.board().group(group)
    {
        // If the question was withdrawn, this is ignored, and the next process tries the new code.
        slot.decide(in_force.me(), choice, &String::from_utf8_lossy(module));
    }
}

/// Logs the finding of another process, which has tried or died while it tried.
fn tell(slot: &GroupSlot, group: &[u8]) {
    let module = slot.module();
    log_info(&format!(
        "{}: shares the GIL of the process, forced by {}",
        named(group),
        if module.is_empty() {
            "another child"
        } else {
            &module
        }
    ));
}

fn named(group: &[u8]) -> String {
    match group {
        b"" => String::from("application group %{GLOBAL}"),
        name => format!("application group '{}'", String::from_utf8_lossy(name)),
    }
}
