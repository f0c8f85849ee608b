//! `WSGIReload modules`: a thread of each child looks for changed source files, and tells the reloader.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wsgi_abi::Engine;
use wsgi_core::config::reload::Reload;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm::accept;
use wsgi_telemetry::board::{RetireReason, RollPhase};

use super::slot::{self, ChildSlot};
use super::steady;
use crate::config::inherited::Process;
use crate::engine::host::HostRequests;
use crate::engine::start;
use crate::log::log_message;
use crate::reload::file_stamp::changed;

/// How often the thread looks.
const LOOK: Duration = Duration::from_secs(1);
/// Name of the thread.
const THREAD: &str = "wsgi-sources";

/// Starts the thread in a child that begins to serve, if `WSGIReload modules` is set.
pub(crate) fn start(process: &Process) {
    let (Some(slot), Some(engine)) = (slot::get(), start::engine()) else {
        return;
    };
    if process.reload != Reload::Modules {
        return;
    }
    let mut watch = Watch {
        slot,
        engine,
        changed: None,
    };
    let run = move || {
        while !accept::is_leaving() {
            std::thread::sleep(LOOK);
            watch.look();
        }
    };
    if let Err(error) = steady::spawn(THREAD, run) {
        let follows = "this child does not notice changed source files";
        log_message(Message::NoThread, &[&THREAD, &error, &follows]);
    }
}

struct Watch {
    slot: ChildSlot,
    engine: Engine<HostRequests>,
    /// A changed file that was not reported to the reloader yet.
    changed: Option<PathBuf>,
}

impl Watch {
    fn look(&mut self) {
        if let Some(path) = self.engine.changed_source() {
            self.changed = Some(Path::new(OsStr::from_bytes(&path)).to_path_buf());
        }
        let Some(path) = &self.changed else { return };
        match self.is_news(path) {
            Some(true) => {
                let board = self.slot.board();
                let what = path.display().to_string();
                // If the board has no room for the request, a roll is already requested.
                let _ticket = board.request_reload(None, RetireReason::SourceChanged, &what);
                self.changed = None;
            }
            Some(false) => self.changed = None,
            None => {}
        }
    }

    /// Returns whether the reloader must learn of the change; `None` while that is unknown. A child whose code is older
    /// than the wanted revision will be replaced by a child that loads the current files. But if that revision was
    /// refused, a change since its trial may have corrected it.
    fn is_news(&self, path: &Path) -> Option<bool> {
        if self.slot.is_current() {
            return Some(true);
        }
        let roll = self.slot.board().roll();
        let began = i64::try_from(roll.began).unwrap_or(i64::MAX);
        // The time at which a file was removed is unknown.
        let is_later = || fs::metadata(path).map_or(true, |found| changed(&found) > began);
        (roll.phase == RollPhase::Stopped).then(is_later)
    }
}
