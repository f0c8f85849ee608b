//! The configuration of httpd, as far as it is ours: created and merged where httpd asks for it, filled in by the
//! one function behind every directive, and checked as a whole.
//!
//! A mistake does not stop httpd at once: all of them are collected and reported together, each with file and line.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use wsgi_core::config::{self, PlaceConfig, ServerConfig};
use wsgi_core::directive::{DIRECTIVES, Directive, Place, Target};
use wsgi_httpd::command::Command;
use wsgi_httpd::guard::guard;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::pool::Pool;
use wsgi_httpd::regex::Regex;
use wsgi_httpd::request::Request;
use wsgi_httpd::{c_bytes, module, sys};

/// What we keep with each server.
#[derive(Default)]
pub(crate) struct Server {
    /// As written, or merged.
    pub(crate) config: ServerConfig,
    /// The compiled pattern of each alias that has one.
    pub(crate) patterns: Vec<Option<Regex>>,
}

// SAFETY: patterns belong to the configuration, which is read-only once it is complete.
unsafe impl Sync for Server {}

/// What was noticed while the configuration is read.
struct Reading {
    /// Whether it is being read; otherwise directives come from `.htaccess`.
    active: bool,
    mistakes: Vec<String>,
    /// Directives that were used.
    used: Vec<&'static Directive>,
}

static READING: Mutex<Reading> = Mutex::new(Reading { active: false, mistakes: Vec::new(), used: Vec::new() });

/// Inside `<WSGIInterpreterOptions>`.
static IN_CONTAINER: AtomicBool = AtomicBool::new(false);

fn reading() -> std::sync::MutexGuard<'static, Reading> {
    READING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directives that the configuration uses, in the order of their first use.
pub(crate) fn used_directives() -> Vec<&'static Directive> {
    reading().used.clone()
}

/// The configuration is complete: from now on, directives come from `.htaccess`.
pub(crate) fn close() {
    reading().active = false;
}

/// Our configuration of a server.
///
/// # Safety
/// `server` must be a live server_rec.
pub(crate) unsafe fn of_server<'s>(server: *const sys::server_rec) -> Option<&'s Server> {
    // SAFETY: by contract; `create_server` put a `Server` there.
    unsafe { module::config((*server).module_config) }
}

/// Our configurations of the server and of the place of a request.
pub(crate) fn of_request<'r>(request: Request<'r>) -> Option<(&'r Server, &'r PlaceConfig)> {
    static NOTHING: PlaceConfig = PlaceConfig::EMPTY;
    // SAFETY: vectors of a live request; the creators below put these types there.
    unsafe {
        let server = of_server(request.server())?;
        Some((server, module::config(request.place_config()).unwrap_or(&NOTHING)))
    }
}

pub(crate) unsafe extern "C" fn create_server(pool: *mut sys::apr_pool_t, _: *mut sys::server_rec) -> *mut c_void {
    // SAFETY: the pool of the configuration.
    guard(|| unsafe { own(pool, Server::default()) })
}

pub(crate) unsafe extern "C" fn merge_server(
    pool: *mut sys::apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    // SAFETY: both were made by `create_server` or here.
    guard(|| unsafe {
        let (outer, inner) = (&*outer.cast::<Server>(), &*inner.cast::<Server>());
        let merged = Server {
            config: ServerConfig::merge(&outer.config, &inner.config),
            // In the order in which the aliases are merged.
            patterns: inner.patterns.iter().chain(&outer.patterns).copied().collect(),
        };
        debug_assert_eq!(merged.patterns.len(), merged.config.aliases.len());
        own(pool, merged)
    })
}

pub(crate) unsafe extern "C" fn create_place(pool: *mut sys::apr_pool_t, _: *mut c_char) -> *mut c_void {
    // SAFETY: the pool of the configuration, or of a request for `.htaccess`.
    guard(|| unsafe { own(pool, PlaceConfig::default()) })
}

pub(crate) unsafe extern "C" fn merge_place(
    pool: *mut sys::apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    // SAFETY: both were made by `create_place` or here.
    guard(|| unsafe { own(pool, PlaceConfig::merge(&*outer.cast(), &*inner.cast())) })
}

/// # Safety
/// `pool` must be a live pool.
unsafe fn own<T>(pool: *mut sys::apr_pool_t, value: T) -> *mut c_void {
    // SAFETY: by contract.
    let value: *mut T = unsafe { Pool::from_raw(pool) }.own(value);
    value.cast()
}

pub(crate) unsafe extern "C" fn pre_config(
    _pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
) -> c_int {
    guard(|| {
        *reading() = Reading { active: true, mistakes: Vec::new(), used: Vec::new() };
        IN_CONTAINER.store(false, Ordering::Relaxed);
        sys::OK as c_int
    })
}

pub(crate) unsafe extern "C" fn check_config(
    _pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    guard(|| {
        let mut mistakes = std::mem::take(&mut reading().mistakes);
        // SAFETY: httpd's list of servers.
        let servers: Vec<&ServerConfig> = unsafe { all_servers(main) }.map(|server| &server.config).collect();
        mistakes.extend(config::daemon_problems(servers));
        for mistake in &mistakes {
            log::startup(Level::ERROR, mistake);
        }
        if mistakes.is_empty() { sys::OK as c_int } else { sys::HTTP_INTERNAL_SERVER_ERROR as c_int }
    })
}

/// Our configurations of all servers.
///
/// # Safety
/// `main` must be httpd's list of servers.
pub(crate) unsafe fn all_servers<'s>(main: *mut sys::server_rec) -> impl Iterator<Item = &'s Server> {
    let mut next = main;
    std::iter::from_fn(move || {
        // SAFETY: by contract; the list ends with null.
        unsafe {
            let server = next.as_ref()?;
            next = server.next;
            Some(of_server(server))
        }
    })
    .flatten()
}

/// The function behind every directive.
pub(crate) unsafe extern "C" fn directive(
    parms: *mut sys::cmd_parms,
    place: *mut c_void,
    args: *const c_char,
) -> *const c_char {
    guard(|| {
        // SAFETY: httpd calls with the line that it is reading, and our configuration of the place.
        let (mut command, args, place) =
            unsafe { (Command::from_raw(parms), c_bytes(args), place.cast::<PlaceConfig>().as_mut()) };
        let Some(directive) = DIRECTIVES.get(command.number()) else { return std::ptr::null() };
        // SAFETY: `place` was made by `create_place`.
        match unsafe { set(&mut command, directive, args, place) } {
            Ok(()) if directive.container => read_container(&mut command),
            Ok(()) => std::ptr::null(),
            Err(mistake) => {
                let mut reading = reading();
                if reading.active {
                    reading.mistakes.push(format!("{}: {mistake}", command.location()));
                    std::ptr::null()
                } else {
                    command.error(&mistake)
                }
            }
        }
    })
}

/// # Safety
/// The configurations of the command's server must be ours, and this thread be the only one that looks at them.
unsafe fn set(
    command: &mut Command<'_>,
    directive: &'static Directive,
    args: &[u8],
    place: Option<&mut PlaceConfig>,
) -> Result<(), String> {
    let Ok(args) = std::str::from_utf8(args) else {
        return Err(format!("{}: the line is not valid UTF-8", directive.shown_name()));
    };
    let inside = IN_CONTAINER.load(Ordering::Relaxed);
    if directive.place == Place::Global
        && let Some(why) = command.forbidden(sys::GLOBAL_ONLY)
    {
        return Err(why);
    }
    if inside && !directive.in_container {
        return Err(format!("{} may not stand in <WSGIInterpreterOptions>", directive.shown_name()));
    }
    note_use(directive);
    // SAFETY: by contract.
    let server = unsafe { module::config_mut::<Server>((*command.server()).module_config) };
    let (Some(server), Some(place)) = (server, place) else { return Ok(()) };
    if inside {
        let Some(options) = server.config.interpreter_options.last_mut() else { return Ok(()) };
        return directive.set(args, &mut Target::Options(options));
    }
    if command.in_section() {
        return directive.set(args, &mut Target::Place(place));
    }
    let location = command.location();
    directive.set(args, &mut Target::Server(&mut server.config))?;
    server.config.locate(&location);
    compile_pattern(command, directive, server)
}

fn note_use(directive: &'static Directive) {
    let mut reading = reading();
    if reading.active && !reading.used.iter().any(|used| used.name == directive.name) {
        reading.used.push(directive);
    }
}

/// Compiles the pattern of an alias that has just been read, which only httpd can.
fn compile_pattern(command: &Command<'_>, directive: &Directive, server: &mut Server) -> Result<(), String> {
    while server.patterns.len() < server.config.aliases.len() {
        let alias = &server.config.aliases[server.patterns.len()];
        if !alias.regex {
            server.patterns.push(None);
            continue;
        }
        // SAFETY: the pool of the configuration, with which `server` lives.
        let pattern = unsafe { Regex::compile(command.pool(), &alias.location) };
        let failed = pattern.is_none();
        let location = alias.location.clone();
        server.patterns.push(pattern);
        if failed {
            return Err(format!(
                "{}: the regular expression '{location}' could not be compiled",
                directive.shown_name()
            ));
        }
    }
    Ok(())
}

/// Reads what stands in `<WSGIInterpreterOptions>`.
fn read_container(command: &mut Command<'_>) -> *const c_char {
    IN_CONTAINER.store(true, Ordering::Relaxed);
    let answer = command.walk_inside();
    IN_CONTAINER.store(false, Ordering::Relaxed);
    answer
}
