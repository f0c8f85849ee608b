//! Loads scripts before the first request, and requests the URLs of `WSGIWarmup`.

use std::time::Duration;

use wsgi_abi::Engine;
use wsgi_core::messages::Message;

use super::host::HostRequests;
use super::warmup;
use crate::config::placement::{Script, Warmup};
use crate::log::log_message;
use crate::metrics::applications::app_of_script;

/// Receives the progress of a load.
pub(crate) trait Progress {
    /// `what` is loaded or requested next, which may take at most `limit`.
    fn step(&self, what: &str, limit: Option<Duration>);
    /// All scripts of an application group have been loaded.
    fn loaded(&self, group: &[u8]);
}

/// Why a child or a trial is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// A script of each of these groups could not be loaded; the log says why.
    Load(Vec<Vec<u8>>),
    /// A URL was not answered; the log says so.
    Warmup,
}

/// Loads all scripts. If that succeeds, requests all URLs. A failure does not stop the rest of the scripts or URLs.
pub(crate) fn load<'a>(
    engine: Engine<HostRequests>,
    scripts: impl IntoIterator<Item = &'a Script>,
    warmups: impl IntoIterator<Item = &'a Warmup>,
    progress: &impl Progress,
) -> Result<(), NotReady> {
    let (mut loaded, mut failed) = (Vec::new(), Vec::new());
    for Script { group, script } in scripts {
        let what = format!("WSGI script '{}'", String::from_utf8_lossy(script));
        progress.step(&what, warmup::startup_limit(group));
        match engine.load(group, script, app_of_script(script).number()) {
            true => loaded.push(group),
            false => failed.push(group.clone()),
        }
    }
    for group in loaded.into_iter().filter(|group| !failed.contains(group)) {
        progress.loaded(group);
    }
    if !failed.is_empty() {
        return Err(NotReady::Load(failed));
    }
    let mut answered = true;
    for warmup in warmups {
        let limit = warmup::startup_limit(&warmup.script.group);
        progress.step(&format!("WSGIWarmup {}", warmup.url), limit);
        if let Err(problem) = warmup::ask(engine, warmup) {
            log_message(Message::WarmupFailed, &[&warmup.url, &problem]);
            answered = false;
        }
    }
    if answered {
        Ok(())
    } else {
        Err(NotReady::Warmup)
    }
}
