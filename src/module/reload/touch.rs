//! `WSGIReload touch`: a file whose change means that there is new code.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use wsgi_core::config::reload::Reload;
use wsgi_core::messages::Message;
use wsgi_telemetry::board::{ReloadRequest, RetireReason};

use super::file_stamp::{Stamp, changed, stamp};
use crate::log::log_message;

/// How often the file is looked at.
const LOOK_AT_FILE: Duration = Duration::from_millis(200);

/// The file of `WSGIReload touch`.
pub(crate) struct Touch {
    seen: Stamp,
    looked: Instant,
}

impl Touch {
    /// Starts to watch. A touch before `known`, Unix time in nanoseconds, has already taken effect.
    pub(crate) fn new(reload: &Reload, known: u64) -> Option<Self> {
        let Reload::Touch(file) = reload else {
            return None;
        };
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        let mut seen = stamp(file);
        if fs::metadata(file).is_ok_and(|found| changed(&found) > known) {
            seen.1 = None;
        }
        Some(Self {
            seen,
            looked: Instant::now(),
        })
    }

    /// Returns a request if the file was touched, or removed and made again.
    pub(crate) fn look(&mut self) -> Option<ReloadRequest> {
        if self.looked.elapsed() < LOOK_AT_FILE {
            return None;
        }
        self.looked = Instant::now();
        let found = stamp(&self.seen.0);
        if found.1.is_none() || found == self.seen {
            return None;
        }
        self.seen = found;
        Some(ReloadRequest {
            group: None,
            reason: RetireReason::Touched,
            what: shown(&self.seen.0),
        })
    }
}

/// Warns if touching the file will have no effect, as far as that is known.
pub(super) fn warn(reload: &Reload) {
    if let Reload::Touch(file) = reload
        && let Some(problem) = hopeless(file)
    {
        log_message(Message::TouchHopeless, &[&shown(file), &problem]);
    }
}

/// Returns why touching a file will have no effect, if that is known. The file need not exist yet.
fn hopeless(file: &Path) -> Option<String> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => Some(String::from(
            "this is a directory, and whatever is made in it counts; name a file",
        )),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = file.parent()?;
            let missing = !parent.is_dir();
            missing.then(|| format!("there is no directory {}", shown(parent)))
        }
        Err(error) => Some(format!("the server's user cannot look at it: {error}")),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
