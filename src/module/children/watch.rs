//! `WSGIReload modules`: a thread of each child that looks for source files which have changed, and tells the steward.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wsgi_abi::Engine;
use wsgi_core::config::reload::Reload;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::mpm::accept;
use wsgi_telemetry::board::{RetireReason, RollPhase};

use crate::children::life;
use crate::children::readiness::changed;
use crate::children::slot::{self, Place};
use crate::config::inherited::{self, Process};
use crate::engine::host::Exchanges;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// The child begins to serve: starts the thread, where it is wanted.
pub(crate) fn start(process: &Process) {
    let (Some(place), Some(engine)) = (slot::get(), life::engine()) else {
        return;
    };
    if process.reload != Reload::Modules {
        return;
    }
    let mut watch = Watch {
        place,
        engine,
        changed: None,
    };
    let run = move || {
        while !accept::is_leaving() {
            std::thread::sleep(LOOK);
            watch.look();
        }
    };
    if let Err(error) = inherited::steady("wsgi-sources", run) {
        let line = format!(
            "mod_wsgi_rs: this child does not see source files change: no thread for it: {error}"
        );
        log::server(Level::Error, line.as_bytes());
    }
}

struct Watch {
    place: Place,
    engine: Engine<Exchanges>,
    /// A file that has changed, of which the steward has not been told.
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
                let board = self.place.board();
                let what = path.display().to_string();
                // Where all places are taken, a roll is wanted anyway.
                let _ticket = board.request_reload(None, RetireReason::SourceChanged, &what);
                self.changed = None;
            }
            Some(false) => self.changed = None,
            None => {}
        }
    }

    /// Whether the steward is to be told of it; `None` where that is not known yet. A child whose code is older than what
    /// is wanted is about to be replaced, by one that loads what is there now. But where that code was refused, what has
    /// changed since it was tried may have mended it.
    fn is_news(&self, path: &Path) -> Option<bool> {
        if self.place.is_current() {
            return Some(true);
        }
        let roll = self.place.board().roll();
        let began = i64::try_from(roll.began).unwrap_or(i64::MAX);
        // A file that is gone has changed at a moment that nobody knows.
        let is_later = || fs::metadata(path).map_or(true, |found| changed(&found) > began);
        (roll.phase == RollPhase::Stopped).then(is_later)
    }
}
