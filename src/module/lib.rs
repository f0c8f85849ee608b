//! `mod_wsgi_rs.so`: the module record, and one sentence on when each hook runs.
//!
//! The module holds no Python. In each child it opens the engine of the configured Python (`engine`), and hands
//! requests to it (`handler`); what the engine needs during a request comes through `host`.

mod child;
mod config;
mod engine;
mod environ;
mod handler;
mod host;
mod process;
mod translate;

use std::ffi::{CStr, c_char, c_int, c_void};

use wsgi_core::directive::{DIRECTIVES, Place};
use wsgi_httpd::hooks::Modules;
use wsgi_httpd::{command, guard, hooks, module, sys};

/// Name of the source file in the module record: what `<IfModule mod_wsgi.c>` and `LogLevel wsgi:` go by.
const RECORD_NAME: &CStr = c"mod_wsgi.c";

/// After mod_alias, so that `Alias` and `Redirect` win; before the modules that guess a file from the URL.
static AFTER: Modules<2> = Modules([c"mod_alias.c".as_ptr(), std::ptr::null()]);
static BEFORE: Modules<3> = Modules([c"mod_userdir.c".as_ptr(), c"mod_vhost_alias.c".as_ptr(), std::ptr::null()]);

unsafe extern "C" fn register_hooks(_pool: *mut sys::apr_pool_t) {
    guard::guard(|| {
        // SAFETY: httpd calls this for the record that it loaded.
        unsafe { module::set_record(wsgi_module.0.get()) };
        process::log_panics();
        // Before the configuration is read, twice at start and again at each restart.
        hooks::pre_config(config::pre_config);
        // When all of it was read, also for `httpd -t`.
        hooks::check_config(config::check_config);
        // When the configuration is known to be good, in the parent.
        hooks::post_config(process::post_config);
        // In each child after it has become the unprivileged user, before its first connection.
        hooks::child_init(child::child_init);
        // For each request, to find the file that the URL means.
        hooks::translate_name(translate::translate_name, &AFTER, &BEFORE);
        // For each request whose URL is known and allowed, to answer it.
        hooks::handler(handler::handler);
    });
}

/// Where httpd lets a directive stand.
const fn places(place: Place) -> c_int {
    (match place {
        Place::Global | Place::Server => sys::RSRC_CONF,
        Place::Directory => sys::RSRC_CONF | sys::ACCESS_CONF,
        Place::FileInfo => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_FILEINFO,
        Place::AuthConfig => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_AUTHCFG,
    }) as c_int
}

/// httpd wants C strings, the table of directives has none: names and help texts, each with a NUL.
const TEXT_LEN: usize = {
    let mut len = 0;
    let mut at = 0;
    while at < DIRECTIVES.len() {
        len += DIRECTIVES[at].name.len() + 1 + DIRECTIVES[at].help.len() + 1;
        at += 1;
    }
    len
};

static TEXT: [u8; TEXT_LEN] = {
    let mut text = [0; TEXT_LEN];
    let mut to = 0;
    let mut at = 0;
    while at < DIRECTIVES.len() {
        to = copy(&mut text, to, DIRECTIVES[at].name);
        to = copy(&mut text, to, DIRECTIVES[at].help);
        at += 1;
    }
    text
};

const fn copy(text: &mut [u8; TEXT_LEN], to: usize, from: &str) -> usize {
    let mut at = 0;
    while at < from.len() {
        text[to + at] = from.as_bytes()[at];
        at += 1;
    }
    to + from.len() + 1
}

struct Commands([sys::command_rec; DIRECTIVES.len() + 1]);
// SAFETY: constant data: static strings, a function, and numbers.
unsafe impl Sync for Commands {}

static COMMANDS: Commands = {
    let mut commands = [command::end(); DIRECTIVES.len() + 1];
    let mut text = 0;
    let mut at = 0;
    while at < DIRECTIVES.len() {
        let directive = &DIRECTIVES[at];
        let help = text + directive.name.len() + 1;
        // SAFETY: both offsets lie inside TEXT, by its construction.
        let (name, help_text) = unsafe { ((&raw const TEXT).byte_add(text), (&raw const TEXT).byte_add(help)) };
        commands[at] = command::entry(
            name.cast::<c_char>(),
            config::directive,
            at,
            places(directive.place),
            help_text.cast::<c_char>(),
        );
        text = help + directive.help.len() + 1;
        at += 1;
    }
    Commands(commands)
};

/// A module record; httpd writes its index, handle and name.
#[repr(transparent)]
pub struct Record(std::cell::UnsafeCell<sys::module>);
// SAFETY: httpd writes to it only while it has one thread. [S-1]
unsafe impl Sync for Record {}

/// The record that `LoadModule wsgi_module` looks for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static wsgi_module: Record = Record(std::cell::UnsafeCell::new(sys::module {
    version: sys::MODULE_MAGIC_NUMBER_MAJOR as c_int,
    minor_version: sys::MODULE_MAGIC_NUMBER_MINOR as c_int,
    module_index: -1,
    name: RECORD_NAME.as_ptr(),
    dynamic_load_handle: std::ptr::null_mut::<c_void>(),
    next: std::ptr::null_mut(),
    magic: sys::MODULE_MAGIC_COOKIE as std::ffi::c_ulong,
    rewrite_args: None,
    create_dir_config: Some(config::create_place),
    merge_dir_config: Some(config::merge_place),
    create_server_config: Some(config::create_server),
    merge_server_config: Some(config::merge_server),
    cmds: COMMANDS.0.as_ptr(),
    register_hooks: Some(register_hooks),
    flags: 0,
}));
