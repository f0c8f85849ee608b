//! Our own module, as httpd sees it: a record, configurations, directives, hooks. A [`Module`] implements each of them
//! in ordinary Rust; [`record`] makes the C functions.

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::command::{Command, Next};
use crate::guard::{guard, guard_or};
use crate::helper::ParentThread;
use crate::log::LogServer;
use crate::mpm::child_exit::ChildInit;
use crate::mpm::{self, accept, child_exit, connections};
use crate::pool::Pool;
use crate::reaped::{self, End};
pub use crate::record::Record;
use crate::record::entry;
use crate::request::{Request, retrieve_functions};
use crate::retained::Retained;
use crate::{c_bytes, forked, group_process, helper, log, log_id, sys};

/// What a hook returns to httpd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ok,
    /// The request is not ours.
    Declined,
    /// An HTTP status, or another of httpd's codes.
    Status(c_int),
}

impl Answer {
    fn code(self) -> c_int {
        match self {
            Answer::Ok => sys::OK as c_int,
            Answer::Declined => sys::DECLINED,
            Answer::Status(status) => status,
        }
    }
}

/// A module.
///
/// # Safety
/// A shared object must have only one implementation, the one that its [`Record`] was made for: configurations are
/// found by the record's index, and taken for the types of that implementation.
pub unsafe trait Module: Sized + 'static {
    /// Our configuration of a server. `Sync`, as the threads of all requests read it.
    type Server: Default + Send + Sync + 'static;
    /// Our configuration of a `<Directory>`, `<Location>`, `<Files>` or `.htaccess`.
    type Dir: Default + Send + Sync + 'static;
    /// Module files whose `translate_name` runs before ours.
    const TRANSLATE_AFTER: &'static Files;
    /// Module files whose `translate_name` runs after ours.
    const TRANSLATE_BEFORE: &'static Files;

    /// Returns the exported record.
    fn record() -> &'static Record;

    /// Merges a virtual host's configuration over the main server's.
    fn merge_server(outer: &Self::Server, inner: &Self::Server) -> Self::Server;
    /// Merges a section's configuration over that of the section around it.
    fn merge_dir_config(outer: &Self::Dir, inner: &Self::Dir) -> Self::Dir;
    /// Reads a directive. `server` is `None` in `.htaccess`. An error ends the reading.
    fn directive(
        line: &mut Command<'_>,
        args: &[u8],
        server: Option<&mut Self::Server>,
        dir: &mut Self::Dir,
    ) -> Result<Next, String>;
    /// Called when the container whose directive returned [`Next::Inside`] has been read.
    fn container_end();
    /// Called before the configuration is read: twice at start, and again at each restart.
    fn pre_config();
    /// Called when the whole configuration was read, also for `httpd -t`. Returns whether it is valid.
    fn check_config(servers: &[&Self::Server]) -> bool;
    /// Called in the parent when the configuration is valid. Returns what is added to the server's banner.
    fn post_config(
        parent: &ParentThread,
        servers: &[(&Self::Server, ServerName<'_>)],
    ) -> &'static CStr;
    /// Called in the parent when there is a scoreboard but no child yet. Not called at a graceful restart.
    fn before_children(parent: &ParentThread);
    /// Called in the parent when a child was started.
    fn child_started(parent: &ParentThread, pid: u32);
    /// Called in the parent when a child has ended and was reaped, so that none of its threads run any more. `how` is
    /// `None` if that is unknown.
    fn child_ended(pid: u32, how: Option<End>);
    /// Called in the parent about every ten seconds.
    fn monitor(parent: &ParentThread);
    /// Called in the parent at the orderly end of httpd.
    fn server_end();
    /// Called in each child after it has become the unprivileged user, before its first connection.
    fn child_init(inside: &ChildInit);
    /// Called at the end of a child that has run `child_init`, before its connections and requests are destroyed. Under
    /// prefork in a signal handler, wherever its thread is.
    fn child_ends();
    /// Called at the end of a child that has run `child_init`, after [`Self::child_ends`].
    fn child_exit();
    /// Called in a process that a child has forked. May do only what a signal handler may.
    fn child_forked();
    /// Called for each request, to find the file that its URL means.
    fn translate_name(request: Request<'_>) -> Answer;
    /// Called for each request whose URL is translated and allowed, to answer it.
    fn handler(request: Request<'_>) -> Answer;
    /// Returns what mod_status shows about this module.
    fn status(form: StatusForm) -> String;
}

/// The form of the mod_status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// Lines of `Name: value`, for programs (`?auto`).
    Lines,
    /// HTML.
    Html,
}

/// The names and ports of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName<'s> {
    /// `ServerName`, without the port.
    pub name: &'s [u8],
    /// The port in `ServerName`; 0 if it has none.
    pub port: u16,
    /// The port that clients of this server use: that of `ServerName`, of `<VirtualHost>`, or of the first `Listen`.
    pub request_port: u16,
    /// Whether the server is a `<VirtualHost>`.
    pub is_virtual: bool,
    /// The log of the server.
    pub log: LogServer,
    aliases: &'s [*const c_char],
}

impl<'s> ServerName<'s> {
    /// Returns the names in `ServerAlias` that have no wildcards.
    pub fn aliases(self) -> impl Iterator<Item = &'s [u8]> {
        // SAFETY: made by `all_servers` from C strings that live during `'s`. [S-60]
        self.aliases.iter().map(|&alias| unsafe { c_bytes(alias) })
    }
}

/// Names of module files, ended by null.
#[repr(transparent)]
pub struct Files(pub [*const c_char; 3]);

// SAFETY: static strings.
unsafe impl Sync for Files {}

/// Whether the configuration is being read, while the process has a single thread. Otherwise directives come from
/// `.htaccess`, and all threads share the configurations of servers.
static CONFIGURING: AtomicBool = AtomicBool::new(false);

/// Makes the record of `M`, which must be exported under the name that `LoadModule` uses. `name` is the name for
/// `<IfModule>` and `LogLevel`; `commands` must be a table that ends with [`crate::command::end`].
pub const fn record<M: Module>(
    name: &'static CStr,
    commands: &'static [sys::command_rec],
) -> Record {
    Record::new(sys::module {
        version: sys::MODULE_MAGIC_NUMBER_MAJOR as c_int,
        minor_version: sys::MODULE_MAGIC_NUMBER_MINOR as c_int,
        module_index: -1,
        name: name.as_ptr(),
        dynamic_load_handle: std::ptr::null_mut(),
        next: std::ptr::null_mut(),
        magic: sys::MODULE_MAGIC_COOKIE as c_ulong,
        rewrite_args: None,
        create_dir_config: Some(create_dir_config::<M>),
        merge_dir_config: Some(merge_dir_config::<M>),
        create_server_config: Some(create_server::<M>),
        merge_server_config: Some(merge_server::<M>),
        cmds: commands.as_ptr(),
        register_hooks: Some(register_hooks::<M>),
        flags: 0,
    })
}

/// Returns our configurations of all servers.
///
/// # Safety
/// `main` must be httpd's list of servers, which lives during `'s`.
unsafe fn all_servers<'s, M: Module>(
    main: *mut sys::server_rec,
) -> Vec<(&'s M::Server, ServerName<'s>)> {
    let mut servers = Vec::new();
    let mut next = main;
    // SAFETY: by contract; the list ends with null, and `create_server` made the entries.
    unsafe {
        while let Some(server) = next.as_ref() {
            let name = ServerName {
                name: c_bytes(server.server_hostname),
                port: server.port,
                request_port: request_port(server),
                is_virtual: server.is_virtual != 0,
                log: LogServer::new(next),
                aliases: match server.names.as_ref() {
                    // The elements are C strings.
                    Some(names) if names.nelts > 0 => std::slice::from_raw_parts(
                        names.elts.cast(),
                        usize::try_from(names.nelts).unwrap_or(0),
                    ),
                    _ => &[],
                },
            };
            let config = entry(server.module_config).cast::<M::Server>().as_ref();
            servers.extend(config.map(|config| (config, name)));
            next = server.next;
        }
    }
    servers
}

/// Returns [`ServerName::request_port`].
///
/// # Safety
/// `server` must be in httpd's list of servers.
unsafe fn request_port(server: &sys::server_rec) -> u16 {
    // SAFETY: by contract; the addresses of a server and the list of listeners live as long as the configuration, and
    // are null if there are none.
    unsafe {
        let of_host = server.addrs.as_ref().map_or(0, |address| address.host_port);
        let listener = sys::ap_listeners.as_ref();
        let of_listener = listener
            .and_then(|listener| listener.bind_addr.as_ref())
            .map_or(0, |address| address.port);
        let ports = [server.port, of_host, of_listener];
        ports.into_iter().find(|&port| port != 0).unwrap_or(0)
    }
}

unsafe extern "C" fn create_server<M: Module>(
    pool: *mut sys::apr_pool_t,
    _: *mut sys::server_rec,
) -> *mut c_void {
    // SAFETY: the configuration pool.
    guard(|| unsafe { own(pool, M::Server::default()) })
}

unsafe extern "C" fn merge_server<M: Module>(
    pool: *mut sys::apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    // SAFETY: both were made by `create_server` or here.
    guard(|| unsafe { own(pool, M::merge_server(&*outer.cast(), &*inner.cast())) })
}

unsafe extern "C" fn create_dir_config<M: Module>(
    pool: *mut sys::apr_pool_t,
    _: *mut c_char,
) -> *mut c_void {
    // SAFETY: the configuration pool, or a request's pool for `.htaccess`.
    guard(|| unsafe { own(pool, M::Dir::default()) })
}

unsafe extern "C" fn merge_dir_config<M: Module>(
    pool: *mut sys::apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    // SAFETY: both were made by `create_dir_config` or here.
    guard(|| unsafe { own(pool, M::merge_dir_config(&*outer.cast(), &*inner.cast())) })
}

/// # Safety
/// `pool` must be a live pool.
unsafe fn own<T: Send + 'static>(pool: *mut sys::apr_pool_t, value: T) -> *mut c_void {
    // SAFETY: by contract.
    let value: *mut T = unsafe { Pool::from_raw(pool) }.own(value);
    value.cast()
}

/// Returns the C function of every directive of `M`.
pub(crate) unsafe extern "C" fn directive<M: Module>(
    parms: *mut sys::cmd_parms,
    dir: *mut c_void,
    args: *const c_char,
) -> *const c_char {
    guard(|| {
        // SAFETY: httpd passes the line that it is reading; both configurations were made above. The server's is only
        // borrowed mutably while httpd has one thread.
        let (mut line, args, server, dir) = unsafe {
            let line = Command::from_raw(parms);
            let configuring = CONFIGURING.load(Ordering::Acquire);
            let server = configuring.then(|| entry((*(*parms).server).module_config));
            let server = server.and_then(|server| server.cast::<M::Server>().as_mut());
            (line, c_bytes(args), server, dir.cast::<M::Dir>().as_mut())
        };
        let Some(dir) = dir else {
            return std::ptr::null();
        };
        match M::directive(&mut line, args, server, dir) {
            Ok(Next::Line) => std::ptr::null(),
            Ok(Next::Inside) => {
                let answer = line.walk_inside();
                M::container_end();
                answer
            }
            Err(text) => line.error(&text),
        }
    })
}

unsafe extern "C" fn register_hooks<M: Module>(_pool: *mut sys::apr_pool_t) {
    const NONE: *const *const c_char = std::ptr::null();
    const MIDDLE: c_int = sys::APR_HOOK_MIDDLE as c_int;
    type PreConnection = unsafe extern "C" fn(*mut sys::conn_rec, *mut c_void) -> c_int;
    type PostReadRequest = unsafe extern "C" fn(*mut sys::request_rec) -> c_int;
    // SAFETY: registers functions that stay mapped, and lists that end with null. [S-1]
    guard(|| unsafe {
        M::record().registered();
        sys::ap_hook_pre_config(Some(pre_config::<M>), NONE, NONE, MIDDLE);
        sys::ap_hook_check_config(Some(check_config::<M>), NONE, NONE, MIDDLE);
        sys::ap_hook_post_config(Some(post_config::<M>), NONE, NONE, MIDDLE);
        sys::ap_hook_pre_mpm(Some(pre_mpm::<M>), NONE, NONE, sys::APR_HOOK_LAST as c_int);
        sys::ap_hook_child_status(Some(child_status::<M>), NONE, NONE, MIDDLE);
        sys::ap_hook_monitor(Some(monitor::<M>), NONE, NONE, MIDDLE);
        let first = sys::APR_HOOK_REALLY_FIRST;
        sys::ap_hook_child_init(Some(child_begins), NONE, NONE, first);
        sys::ap_hook_child_init(Some(child_init::<M>), NONE, NONE, MIDDLE);
        let counted = Some(connections::pre_connection as PreConnection);
        sys::ap_hook_pre_connection(counted, NONE, NONE, first);
        let read = Some(connections::post_read_request as PostReadRequest);
        sys::ap_hook_post_read_request(read, NONE, NONE, first);
        type GenerateLogId = unsafe extern "C" fn(
            *const sys::conn_rec,
            *const sys::request_rec,
            *mut *const c_char,
        ) -> c_int;
        let generate = Some(log_id::generate as GenerateLogId);
        sys::ap_hook_generate_log_id(generate, NONE, NONE, sys::APR_HOOK_LAST as c_int);
        let (after, before) = (
            M::TRANSLATE_AFTER.0.as_ptr(),
            M::TRANSLATE_BEFORE.0.as_ptr(),
        );
        sys::ap_hook_translate_name(Some(translate_name::<M>), after, before, MIDDLE);
        sys::ap_hook_handler(Some(handler::<M>), NONE, NONE, MIDDLE);
        // mod_status.h declares the hook; mod_status, if loaded, calls it.
        type Any = unsafe extern "C" fn();
        type Status = unsafe extern "C" fn(*mut sys::request_rec, c_int) -> c_int;
        let status = std::mem::transmute::<Status, Any>(status::<M>);
        sys::apr_optional_hook_add(c"status_hook".as_ptr(), Some(status), NONE, NONE, MIDDLE);
    });
}

unsafe extern "C" fn pre_config<M: Module>(
    _pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
) -> c_int {
    guard(|| {
        log::forget_main();
        CONFIGURING.store(true, Ordering::Release);
        M::pre_config();
        sys::OK as c_int
    })
}

unsafe extern "C" fn check_config<M: Module>(
    _pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    guard(|| {
        // SAFETY: httpd's list of servers.
        let servers = unsafe { all_servers::<M>(main) };
        match M::check_config(&configs::<M>(servers)) {
            true => sys::OK as c_int,
            false => sys::HTTP_INTERNAL_SERVER_ERROR as c_int,
        }
    })
}

unsafe extern "C" fn post_config<M: Module>(
    pconf: *mut sys::apr_pool_t,
    _plog: *mut sys::apr_pool_t,
    _ptemp: *mut sys::apr_pool_t,
    main: *mut sys::server_rec,
) -> c_int {
    guard(|| {
        CONFIGURING.store(false, Ordering::Release);
        if mpm::is_first_pass() {
            return sys::OK as c_int;
        }
        // SAFETY: httpd's list of servers, in force until the next `pre_config`; the configuration pool, into which
        // httpd copies the text; on the main thread of the parent. [S-14]
        unsafe {
            log::set_main(main);
            Pool::from_raw(pconf).cleanup(std::ptr::null_mut(), configuration_ends);
            helper::set_pool(pconf);
            if !mpm::single_process() {
                reaped::watch();
            }
            at_server_end::<M>();
            group_process::find_command_line();
            let parent = ParentThread::new();
            let component = M::post_config(&parent, &all_servers::<M>(main));
            sys::ap_add_version_component(pconf, component.as_ptr());
        }
        sys::OK as c_int
    })
}

unsafe extern "C" fn configuration_ends(_: *mut c_void) -> sys::apr_status_t {
    log::forget_main();
    0
}

/// Makes this process call `server_end` when httpd ends, once for each copy of the module.
fn at_server_end<M: Module>() {
    unsafe extern "C" fn server_end<M: Module>(parent: *mut c_void) -> sys::apr_status_t {
        guard_or(0, || {
            // A forked process may clear its copy of the pool, but is not the parent.
            if parent.addr() == std::process::id() as usize {
                M::server_end();
            }
            0
        })
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let parent = std::ptr::without_provenance_mut(std::process::id() as usize);
        // SAFETY: the pool lives as long as the process; the data is a number, and the function stays mapped. [S-1]
        // [S-15]
        unsafe { Pool::from_raw(sys::ap_pglobal).cleanup(parent, server_end::<M>) };
    });
}

unsafe extern "C" fn pre_mpm<M: Module>(_: *mut sys::apr_pool_t, _: sys::ap_scoreboard_e) -> c_int {
    guard(|| {
        // SAFETY: the MPM has not started yet, so this is the parent's main thread. [S-14]
        M::before_children(&unsafe { ParentThread::new() });
        sys::OK as c_int
    })
}

unsafe extern "C" fn child_status<M: Module>(
    _: *mut sys::server_rec,
    pid: sys::pid_t,
    _generation: sys::ap_generation_t,
    _slot: c_int,
    status: sys::mpm_child_status,
) {
    guard(|| match (u32::try_from(pid), status) {
        (Ok(pid @ 1..), sys::MPM_CHILD_STARTED) => {
            reaped::follow(pid);
            // SAFETY: the MPM calls this on the thread that has forked the child. [S-14]
            M::child_started(&unsafe { ParentThread::new() }, pid);
        }
        (Ok(pid @ 1..), sys::MPM_CHILD_EXITED) => M::child_ended(pid, reaped::end_of(pid)),
        // A child that has lost its slot still runs.
        _ => {}
    });
}

unsafe extern "C" fn monitor<M: Module>(_: *mut sys::apr_pool_t, _: *mut sys::server_rec) -> c_int {
    guard(|| {
        // SAFETY: the MPM calls this from the main loop of the parent. [S-14]
        M::monitor(&unsafe { ParentThread::new() });
        sys::DECLINED
    })
}

/// Runs before the `child_init` hook of any other module.
unsafe extern "C" fn child_begins(pool: *mut sys::apr_pool_t, _: *mut sys::server_rec) {
    guard(|| {
        // SAFETY: the child's pool.
        unsafe { child_exit::child_begins(pool) };
        accept::child_begins();
        if !mpm::single_process() {
            Retained::get().close_descriptors();
        }
        forked::note();
        reaped::forget();
    });
}

unsafe extern "C" fn child_init<M: Module>(pool: *mut sys::apr_pool_t, _: *mut sys::server_rec) {
    unsafe extern "C" fn child_exit<M: Module>(_: *mut c_void) -> sys::apr_status_t {
        guard_or(0, || {
            M::child_exit();
            0
        })
    }
    unsafe extern "C" fn child_ends<M: Module>(_: *mut c_void) -> sys::apr_status_t {
        guard_or(0, || {
            M::child_ends();
            0
        })
    }
    fn child_forked<M: Module>() {
        log_id::child_forked();
        M::child_forked();
    }
    guard(|| {
        // SAFETY: the child's pool, which is cleared when the child ends; the functions take no data. `child_ends` is
        // called before the sub-pools are destroyed; under prefork, these include the pools of connections and
        // requests.
        unsafe {
            sys::apr_pool_pre_cleanup_register(pool, std::ptr::null(), Some(child_ends::<M>));
            Pool::from_raw(pool).cleanup(std::ptr::null_mut(), child_exit::<M>);
        }
        forked::watch(child_forked::<M>);
        retrieve_functions();
        log_id::child_begins();
        // SAFETY: this is the hook, and the value ends with it.
        M::child_init(&unsafe { ChildInit::new() });
    });
}

unsafe extern "C" fn translate_name<M: Module>(request: *mut sys::request_rec) -> c_int {
    // SAFETY: httpd lends the request for the duration of the hook.
    guard(|| M::translate_name(unsafe { Request::from_raw(request) }).code())
}

unsafe extern "C" fn handler<M: Module>(request: *mut sys::request_rec) -> c_int {
    // SAFETY: httpd lends the request for the duration of the hook.
    guard(|| M::handler(unsafe { Request::from_raw(request) }).code())
}

unsafe extern "C" fn status<M: Module>(request: *mut sys::request_rec, flags: c_int) -> c_int {
    /// `AP_STATUS_SHORT` of mod_status.h.
    const SHORT: c_int = 1;
    guard(|| {
        let form = match flags & SHORT {
            0 => StatusForm::Html,
            _ => StatusForm::Lines,
        };
        let text = M::status(form);
        let length = c_int::try_from(text.len()).unwrap_or(0);
        // SAFETY: httpd lends the request for the duration of the hook; `text` has `length` bytes.
        unsafe { sys::ap_rwrite(text.as_ptr().cast(), length, request) };
        sys::OK as c_int
    })
}

fn configs<'s, M: Module>(servers: Vec<(&'s M::Server, ServerName<'s>)>) -> Vec<&'s M::Server> {
    servers.into_iter().map(|(config, _)| config).collect()
}
