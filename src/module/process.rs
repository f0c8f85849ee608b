//! What the parent works out once, when the configuration is known to be good, and its children inherit.

use std::ffi::c_int;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};

use wsgi_core::config::{self, ImportScript, PythonConfig};
use wsgi_core::directive::Effect;
use wsgi_core::interpreter_options::InterpreterOptions;
use wsgi_core::mpm_plan::{Mpm, MpmPlan};
use wsgi_core::outcome::{Level as CoreLevel, Message};
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::{mpm, sys};

use crate::config::{Server, used_directives};

/// What all children have in common.
pub(crate) struct Process {
    pub(crate) python: PythonConfig,
    pub(crate) interpreter_options: Vec<InterpreterOptions>,
    /// `WSGIPrometheusClient`
    pub(crate) prometheus_client: bool,
    /// What each child loads when it starts.
    pub(crate) preloads: Vec<ImportScript>,
    pub(crate) plan: MpmPlan,
}

/// Set in the parent, read in the children; never on the path of a request.
static PROCESS: RwLock<Option<Arc<Process>>> = RwLock::new(None);

/// What the configuration in force says; `None` while there is none.
pub(crate) fn current() -> Option<Arc<Process>> {
    PROCESS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Level of a message, for httpd.
pub(crate) fn level_of(message: Message) -> Level {
    match message.level() {
        CoreLevel::Critical => Level::CRITICAL,
        CoreLevel::Error => Level::ERROR,
        CoreLevel::Warning => Level::WARNING,
        CoreLevel::Info => Level::INFO,
    }
}

/// Logs a message to the server's log.
pub(crate) fn log_message(message: Message, values: &[&dyn Display]) {
    log::server(level_of(message), message.line(values).as_bytes());
}

/// Panics say where they come from in the error log instead of on the terminal.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| String::from("an unknown place"), ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text");
        log_message(Message::Panic, &[&place, &text]);
    }));
}

/// Works it out, and logs what an administrator should know.
pub(crate) fn prepare(servers: &[&Server]) {
    let Some(main) = servers.first() else { return };
    let count = |answer: Option<c_int>| {
        answer
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1)
    };
    let processes =
        mpm::query(sys::AP_MPMQ_MAX_DAEMONS).or_else(|| mpm::query(sys::AP_MPMQ_MAX_DAEMON_USED));
    let threads = mpm::query(sys::AP_MPMQ_MAX_THREADS);
    let name = String::from_utf8_lossy(mpm::name());
    let process = Process {
        python: main.config.python.clone(),
        interpreter_options: main.config.interpreter_options.clone(),
        prometheus_client: main.config.telemetry.prometheus_client,
        preloads: config::preloads(servers.iter().map(|server| &server.config)),
        plan: MpmPlan::new(Mpm::from_name(&name), count(processes), count(threads)),
    };
    log::server(
        Level::INFO,
        format!("mod_wsgi_rs: {}", process.plan).as_bytes(),
    );
    *PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(process));
    warn_of_directives_without_effect();
}

/// Each directive that this release does not act upon is named once.
fn warn_of_directives_without_effect() {
    for directive in used_directives() {
        let name = directive.shown_name();
        match directive.effect {
            Effect::Now => {}
            Effect::Later(why) => log_message(Message::NoEffectYet, &[&name, &why]),
            Effect::Daemon => log_message(Message::DaemonServedEmbedded, &[&name]),
            Effect::Nothing(why) => {
                log::server(
                    Level::INFO,
                    format!("{name} has no effect: {why}").as_bytes(),
                );
            }
        }
    }
}
