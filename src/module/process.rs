//! What the parent works out once, when the configuration is known to be good, and its children inherit.

use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

use wsgi_core::config::{self, ImportScript, PythonConfig, ServerConfig};
use wsgi_core::directive::Effect;
use wsgi_core::interpreter_options::InterpreterOptions;
use wsgi_core::mpm_plan::{Mpm, MpmPlan};
use wsgi_core::outcome::{Level as CoreLevel, Message};
use wsgi_httpd::guard::guard;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::pool::Pool;
use wsgi_httpd::{mpm, sys};

use crate::config::{all_servers, close, used_directives};

/// What all children have in common.
pub(crate) struct Process {
    /// The main server, for the log.
    pub(crate) server: *mut sys::server_rec,
    pub(crate) python: PythonConfig,
    pub(crate) interpreter_options: Vec<InterpreterOptions>,
    /// What each child loads when it starts.
    pub(crate) preloads: Vec<ImportScript>,
    pub(crate) plan: MpmPlan,
}

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

impl Drop for Process {
    fn drop(&mut self) {
        PROCESS.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// The configuration that is in force; `None` while there is none.
pub(crate) fn current() -> Option<&'static Process> {
    // SAFETY: set by `post_config` to a value of the configuration pool, which is cleared in the parent only, where
    // nobody asks any more; a child has a copy of its own. [S-8]
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

/// Level of a message, for httpd.
pub(crate) fn level_of(message: Message) -> Level {
    Level(match message.level() {
        CoreLevel::Critical => sys::APLOG_CRIT,
        CoreLevel::Error => sys::APLOG_ERR,
        CoreLevel::Warning => sys::APLOG_WARNING,
        CoreLevel::Info => sys::APLOG_INFO,
    } as c_int)
}

/// Logs a message to the server's log.
pub(crate) fn log_message(message: Message, values: &[&dyn std::fmt::Display]) {
    let server = current().map_or(std::ptr::null_mut(), |process| process.server);
    // SAFETY: null, or the main server of the configuration in force.
    unsafe { log::server(server, level_of(message), message.line(values).as_bytes()) }
}

/// Panics say where they come from in the error log instead of on the terminal.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| String::from("an unknown place"), ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text");
        log_message(Message::Panic, &[&place, &text]);
    }));
}

pub(crate) unsafe extern "C" fn post_config(
    pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    guard(|| {
        close();
        if mpm::is_first_pass() {
            return sys::OK as c_int;
        }
        // SAFETY: the configuration pool and httpd's list of servers.
        unsafe { prepare(pconf, main) };
        sys::OK as c_int
    })
}

/// # Safety
/// `pconf` must be the configuration pool, and `main` httpd's list of servers.
unsafe fn prepare(pconf: *mut sys::apr_pool_t, main: *mut sys::server_rec) {
    // SAFETY: by contract.
    let servers: Vec<&ServerConfig> = unsafe { all_servers(main) }.map(|server| &server.config).collect();
    let Some(main_config) = servers.first() else { return };
    let processes = mpm::query(sys::AP_MPMQ_MAX_DAEMONS).or_else(|| mpm::query(sys::AP_MPMQ_MAX_DAEMON_USED));
    let threads = mpm::query(sys::AP_MPMQ_MAX_THREADS);
    let count = |answer: Option<c_int>| answer.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    let name = String::from_utf8_lossy(mpm::name()).into_owned();
    let plan = MpmPlan::new(Mpm::from_name(&name), count(processes), count(threads));
    let process = Process {
        server: main,
        python: main_config.python.clone(),
        interpreter_options: main_config.interpreter_options.clone(),
        preloads: config::preloads(servers.iter().copied()),
        plan,
    };
    // SAFETY: by contract.
    unsafe {
        let process: *mut Process = Pool::from_raw(pconf).own(process);
        PROCESS.store(process, Ordering::Release);
        if let Ok(component) = CString::new(concat!("mod_wsgi_rs/", env!("CARGO_PKG_VERSION"))) {
            mpm::add_version_component(pconf, &component);
        }
        log::server(main, Level::INFO, format!("mod_wsgi_rs: {plan}").as_bytes());
    }
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
            // SAFETY: the main server of the configuration in force.
            Effect::Nothing(why) => unsafe {
                let server = current().map_or(std::ptr::null_mut(), |process| process.server);
                log::server(server, Level::INFO, format!("{name} has no effect: {why}").as_bytes());
            },
        }
    }
}
