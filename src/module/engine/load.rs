//! Loading scripts ahead of requests, and asking for the URLs of `WSGIWarmup`.

use std::time::Duration;

use wsgi_abi::Engine;
use wsgi_core::messages::Message;

use super::host::HostRequests;
use super::warmup;
use crate::config::placement::{Script, Warmup};
use crate::log::log_message;
use crate::metrics::applications::app_of_script;

/// Told while scripts are loaded.
pub(crate) trait Progress {
    /// This is loaded or asked for next, which may take as long as that.
    fn step(&self, what: &str, limit: Option<Duration>);
    /// All scripts of an application group have been loaded.
    fn loaded(&self, group: &[u8]);
}

/// Why a child or a trial is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// A script of each of these groups could not be loaded. Why is in the log.
    Load(Vec<Vec<u8>>),
    /// A URL was not answered. The log says so.
    Warmup,
}

/// Loads these scripts and asks for these URLs; all of them, whatever comes of the ones before.
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
