//! `mod_wsgi_rs.so`: the module record, and the hooks.
//!
//! The module holds no Python. In each child it opens the engine for the configured Python, and passes requests to it.
//! Its folders import each other in this direction only:
//!
//! | folder | what is in it |
//! |---|---|
//! | `request` | one request: whether it is ours, whether it is admitted, how it runs |
//! | `children` | the life of a child, and why it is replaced |
//! | `daemon` | process groups: applications in processes of their own |
//! | `reload` | the process that tries new code and has children replaced |
//! | `engine` | finding and starting the engine for a Python, and the functions of the module that it calls |
//! | `metrics` | the segment of shared memory, and the pages that show it |
//! | `config` | the configuration: read and resolved by the parent, inherited by children |
//! | `log.rs` | lines for the error log |
//! | `polling.rs` | whether a descriptor is readable |

mod children;
mod config;
mod daemon;
mod engine;
mod log;
mod metrics;
mod own_memory;
mod polling;
mod reload;
mod request;

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use wsgi_core::config::{DirConfig, ServerConfig};
use wsgi_core::directives::{Context, DIRECTIVES};
use wsgi_httpd::command::{self, Command, Next};
use wsgi_httpd::helper::ParentThread;
use wsgi_httpd::module::{Answer, Files, Module, Record, ServerName, StatusForm, record};
use wsgi_httpd::mpm::child_exit::ChildInit;
use wsgi_httpd::reaped::End;
use wsgi_httpd::request::Request;
use wsgi_httpd::sys;

use crate::children::{deaths, life};
use crate::config::read;
use crate::daemon::{sockets, supervisor};
use crate::metrics::{listen, pages, parent};
use crate::reload::reloader;
use crate::request::{handler, translate};

pub use config::read::Wsgi;

// SAFETY: the only implementation in this shared object, for its only record.
unsafe impl Module for Wsgi {
    type Server = read::Server;
    type Dir = DirConfig;

    /// After mod_alias, so that `Alias` and `Redirect` take precedence.
    const TRANSLATE_AFTER: &'static Files =
        &Files([c"mod_alias.c".as_ptr(), std::ptr::null(), std::ptr::null()]);
    /// Before the modules that guess a file from the URL.
    const TRANSLATE_BEFORE: &'static Files = &Files([
        c"mod_userdir.c".as_ptr(),
        c"mod_vhost_alias.c".as_ptr(),
        std::ptr::null(),
    ]);

    fn record() -> &'static Record {
        &wsgi_module
    }

    fn merge_server(outer: &Self::Server, inner: &Self::Server) -> Self::Server {
        read::Server {
            config: ServerConfig::merge(&outer.config, &inner.config),
            // In the order in which the aliases are merged.
            patterns: inner
                .patterns
                .iter()
                .chain(&outer.patterns)
                .cloned()
                .collect(),
            apps: OnceLock::new(),
            groups: OnceLock::new(),
        }
    }

    fn merge_dir_config(outer: &DirConfig, inner: &DirConfig) -> DirConfig {
        DirConfig::merge(outer, inner)
    }

    fn directive(
        line: &mut Command<'_>,
        args: &[u8],
        server: Option<&mut Self::Server>,
        dir: &mut DirConfig,
    ) -> Result<Next, String> {
        read::directive(line, args, server, dir)
    }

    fn container_end() {
        read::container_end();
    }

    fn pre_config() {
        log::log_panics();
        read::open();
    }

    fn check_config(servers: &[&Self::Server]) -> bool {
        read::check(servers)
    }

    fn post_config(
        thread: &ParentThread,
        servers: &[(&Self::Server, ServerName<'_>)],
    ) -> &'static CStr {
        let groups = config::prepare(servers);
        deaths::free_gone();
        parent::prepare(servers);
        reloader::prepare(thread);
        daemon::groups::prepare(groups, read::socket_prefix(servers));
        daemon::segments::prepare();
        parent::listen(thread, servers);
        supervisor::prepare(thread);
        BANNER
    }

    fn before_children(thread: &ParentThread) {
        listen::start(thread);
        supervisor::start(thread);
    }

    fn child_started(thread: &ParentThread, pid: u32) {
        deaths::child_started(pid);
        reloader::server_runs(thread);
    }

    fn child_ended(pid: u32, how: Option<End>) {
        deaths::child_ended(pid, how);
    }

    fn monitor(thread: &ParentThread) {
        reloader::revive(thread);
        supervisor::revive(thread);
        parent::monitor(thread);
        daemon::segments::monitor();
    }

    fn server_end() {
        parent::server_end();
        sockets::server_end();
    }

    fn child_init(inside: &ChildInit) {
        daemon::child_begins();
        life::begin(inside);
    }

    fn child_ends() {
        life::hold();
    }

    fn child_exit() {
        life::end();
    }

    fn child_forked() {
        wsgi_telemetry::writer::detach();
    }

    fn translate_name(request: Request<'_>) -> Answer {
        translate::translate(request)
    }

    fn handler(request: Request<'_>) -> Answer {
        match handler::handle(request) {
            Answer::Declined => pages::handle(request),
            answer => answer,
        }
    }

    fn status(form: StatusForm) -> String {
        pages::status_block(form)
    }
}

/// Our part of the `Server:` header.
const BANNER: &CStr = match CStr::from_bytes_with_nul(
    concat!("mod_wsgi_rs/", env!("CARGO_PKG_VERSION"), "\0").as_bytes(),
) {
    Ok(text) => text,
    Err(_) => panic!("the version holds a NUL"),
};

/// The record that `LoadModule wsgi_module` looks for. It has the name that `<IfModule mod_wsgi.c>` and `LogLevel
/// wsgi:` of existing configurations use.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static wsgi_module: Record = record::<Wsgi>(c"mod_wsgi.c", &COMMANDS.0);

struct Commands([sys::command_rec; DIRECTIVES.len() + 1]);
// SAFETY: constant data: static strings, a function, and numbers.
unsafe impl Sync for Commands {}

/// httpd's command table, made from our table of directives.
static COMMANDS: Commands = {
    let mut commands = [command::end(); DIRECTIVES.len() + 1];
    let mut text = TEXT.as_slice();
    let mut at = 0;
    while at < DIRECTIVES.len() {
        let (name, help);
        (name, text) = split(text, DIRECTIVES[at].name.len());
        (help, text) = split(text, DIRECTIVES[at].help.len());
        commands[at] = command::entry::<Wsgi>(name, at, places(DIRECTIVES[at].context), help);
        at += 1;
    }
    Commands(commands)
};

/// Returns the contexts in which httpd accepts a directive.
const fn places(context: Context) -> c_int {
    (match context {
        Context::Global | Context::Server => sys::RSRC_CONF,
        Context::Directory => sys::RSRC_CONF | sys::ACCESS_CONF,
        Context::FileInfo => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_FILEINFO,
        Context::AuthConfig => sys::RSRC_CONF | sys::ACCESS_CONF | sys::OR_AUTHCFG,
    }) as c_int
}

/// Name and help of each directive as C strings: the table of directives has no NULs.
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

const TEXT_LEN: usize = {
    let mut len = 0;
    let mut at = 0;
    while at < DIRECTIVES.len() {
        len += DIRECTIVES[at].name.len() + 1 + DIRECTIVES[at].help.len() + 1;
        at += 1;
    }
    len
};

const fn copy(text: &mut [u8; TEXT_LEN], to: usize, from: &str) -> usize {
    let mut at = 0;
    while at < from.len() {
        text[to + at] = from.as_bytes()[at];
        at += 1;
    }
    to + from.len() + 1
}

/// Returns the C string of `len` bytes at the start of `text`, and the rest.
const fn split(text: &'static [u8], len: usize) -> (&'static CStr, &'static [u8]) {
    let (string, rest) = text.split_at(len + 1);
    match CStr::from_bytes_with_nul(string) {
        Ok(string) => (string, rest),
        Err(_) => panic!("a name or help text holds a NUL"),
    }
}
