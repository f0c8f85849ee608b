//! A request, as its handler sees it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::log::{self, Level};
use crate::module::Module;
use crate::pool::Pool;
use crate::record::{entry, set_entry};
use crate::{c_bytes, c_bytes_opt, sys};

/// Reads a field of a record of httpd. It reads by address, as C code may write other fields of the record, so that no
/// reference to the whole record may exist.
macro_rules! value {
    ($record:expr, $($field:ident).+) => {
        // SAFETY: the record of a live request, or its connection, used by this thread only. [S-64]
        unsafe { (&raw const (*$record).$($field).+).read() }
    };
}

/// Reads a field that is a C string, as bytes; empty for null.
macro_rules! text {
    ($record:expr, $field:ident) => {{
        let text = value!($record, $field);
        // SAFETY: null, or a C string of a pool that lives as long as the request; httpd replaces such strings and
        // never changes them. [S-64]
        unsafe { c_bytes(text) }
    }};
}

/// Reads a field that is a C string, as bytes; `None` for null.
macro_rules! text_opt {
    ($record:expr, $field:ident) => {{
        let text = value!($record, $field);
        // SAFETY: as above. [S-64]
        unsafe { c_bytes_opt(text) }
    }};
}

/// A request that httpd lends for the duration of a hook. Neither `Send` nor `Sync`: it stays on the thread of the
/// hook, unless the module has an `unsafe impl` for it.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    raw: *mut sys::request_rec,
    life: PhantomData<&'r sys::request_rec>,
}

/// A request that holds its thread until this is dropped; see [`Request::hold_thread`].
pub struct HoldsThread<'r>(Request<'r>);

impl Drop for HoldsThread<'_> {
    fn drop(&mut self) {
        self.0.mark(std::ptr::null_mut());
    }
}

/// The kind of file that the URL was mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// There is no such file.
    None,
    /// A directory.
    Directory,
    /// A file, or anything else that is not a directory.
    File,
}

impl<'r> Request<'r> {
    /// # Safety
    /// `raw` must be a live request_rec during `'r`. While one thread uses a value that was made from it, no other
    /// thread may use the record, its connection or their pools, except by [`Self::log_beside`]. [S-64]
    pub(crate) unsafe fn from_raw(raw: *mut sys::request_rec) -> Self {
        Self {
            raw,
            life: PhantomData,
        }
    }

    /// Returns the record.
    pub fn as_ptr(self) -> *mut sys::request_rec {
        self.raw
    }

    /// Returns the pool that lives as long as the request.
    pub fn pool(self) -> Pool<'r> {
        let pool = value!(self.raw, pool);
        // SAFETY: the pool ends with the request, and only the thread that uses the request uses the pool. [S-64]
        unsafe { Pool::from_raw(pool) }
    }

    /// Returns the server or virtual host.
    pub(crate) fn server(self) -> &'r sys::server_rec {
        let server = value!(self.raw, server);
        // SAFETY: every request has a server, which outlives it and does not change while requests are served. [S-64]
        unsafe { &*server }
    }

    /// Returns the connection, which outlives the request.
    fn connection(self) -> *const sys::conn_rec {
        value!(self.raw, connection)
    }

    /// Returns our configurations of the server and of the section; the latter only exists where a directive was used.
    pub fn configs<M: Module>(self) -> (Option<&'r M::Server>, Option<&'r M::Dir>) {
        let (of_server, of_dir) = (
            self.server().module_config,
            value!(self.raw, per_dir_config),
        );
        // SAFETY: vectors of a live request, whose entries were made for `M` (contract of `Module`) and do not change
        // while requests are served. [S-2]
        unsafe {
            (
                entry(of_server).cast::<M::Server>().as_ref(),
                entry(of_dir).cast::<M::Dir>().as_ref(),
            )
        }
    }

    /// `r->handler`
    pub fn handler(self) -> &'r [u8] {
        text!(self.raw, handler)
    }

    /// Sets `r->handler`.
    pub fn set_handler(self, handler: &'static CStr) {
        // SAFETY: only this thread uses the request; the string is static. [S-64]
        unsafe { (*self.raw).handler = handler.as_ptr() }
    }

    /// `r->uri`: the decoded path.
    pub fn uri(self) -> &'r [u8] {
        text!(self.raw, uri)
    }

    /// `r->filename`
    pub fn filename(self) -> &'r [u8] {
        text!(self.raw, filename)
    }

    /// Sets `r->filename`.
    pub fn set_filename(self, filename: &[u8]) {
        let copy = self.pool().dup(filename);
        // SAFETY: only this thread uses the request; the copy lives as long as the request. [S-64]
        unsafe { (*self.raw).filename = copy }
    }

    /// `r->path_info`
    pub fn path_info(self) -> &'r [u8] {
        text!(self.raw, path_info)
    }

    /// `r->args`
    pub fn args(self) -> &'r [u8] {
        text!(self.raw, args)
    }

    /// `r->the_request`: the first line.
    pub fn request_line(self) -> &'r [u8] {
        text!(self.raw, the_request)
    }

    /// `r->protocol`
    pub fn protocol(self) -> &'r [u8] {
        text!(self.raw, protocol)
    }

    /// `r->method`
    pub fn method(self) -> &'r [u8] {
        text!(self.raw, method)
    }

    /// Marks the request as one that holds its thread, until the result is dropped.
    pub fn hold_thread(self) -> HoldsThread<'r> {
        // Any address that is not null will do.
        self.mark(self.raw.cast());
        HoldsThread(self)
    }

    fn mark(self, mark: *mut c_void) {
        let vector = value!(self.raw, request_config);
        // SAFETY: the vector of this request, which only this thread uses. [S-2] [S-64]
        unsafe { set_entry(vector, mark) }
    }

    /// Returns whether this is a subrequest of a request that holds its thread, or an internal redirect within one. httpd
    /// makes such requests on the same thread, while the outer one reads or writes.
    pub fn is_within_holder(self) -> bool {
        let mut inner = self.raw;
        loop {
            let (main, prev) = (value!(inner, main), value!(inner, prev));
            let outer = if main.is_null() { prev } else { main };
            if outer.is_null() {
                return false;
            }
            let vector = value!(outer, request_config);
            // SAFETY: httpd keeps the outer requests as long as the inner one; one thread uses them all. [S-2] [S-64]
            if !unsafe { entry(vector) }.is_null() {
                return true;
            }
            inner = outer;
        }
    }

    /// Returns whether this request makes the page for an error, by an internal redirect (`ErrorDocument`).
    pub fn is_error_page(self) -> bool {
        !value!(self.raw, prev).is_null()
            && value!(self.raw, status) >= sys::HTTP_BAD_REQUEST as c_int
    }

    /// Returns whether this is the page for an error after which httpd closes the connection and reads nothing more
    /// from it (`ap_status_drops_connection`).
    pub fn has_lost_its_body(self) -> bool {
        self.is_error_page()
            && matches!(
                value!(self.raw, status),
                400 | 408 | 411 | 413 | 414 | 500 | 501 | 503
            )
    }

    /// Returns whether this is a subrequest, for instance of mod_include. Subrequests have no bodies.
    pub fn is_subrequest(self) -> bool {
        !value!(self.raw, main).is_null()
    }

    /// Returns whether the protocol is HTTP/1 or older: only there does the client set `Transfer-Encoding` to frame its
    /// body. mod_http2 sets that header, too, for its own use.
    pub fn is_http1(self) -> bool {
        let protocol = self.protocol();
        protocol.starts_with(b"HTTP/1") || protocol.starts_with(b"HTTP/0")
    }

    /// Returns whether the body may be read without blocking: only filters of the protocol and of the connection lie
    /// between the handler and the client.
    pub fn reads_from_protocol(self) -> bool {
        // SAFETY: looks at the chain of filters of the request, which only this thread uses. [S-40] [S-64]
        unsafe { sys::wsgi_shim_reads_from_protocol(self.raw) != 0 }
    }

    /// Returns whether the body that the filters return is known to have the length in `Content-Length`.
    pub fn keeps_length(self) -> bool {
        // SAFETY: as above; filters are registered before there are requests. [S-64]
        unsafe { sys::wsgi_shim_keeps_length(self.raw) != 0 }
    }

    /// Returns whether the method is HEAD.
    pub fn header_only(self) -> bool {
        value!(self.raw, header_only) != 0
    }

    /// `r->user`
    pub fn user(self) -> Option<&'r [u8]> {
        text_opt!(self.raw, user)
    }

    /// `r->ap_auth_type`
    pub fn auth_type(self) -> Option<&'r [u8]> {
        text_opt!(self.raw, ap_auth_type)
    }

    /// Returns the request that was redirected to this one.
    pub fn previous(self) -> Option<Request<'r>> {
        let raw = value!(self.raw, prev);
        // SAFETY: it lives as long as this request, and the same thread uses it. [S-64]
        (!raw.is_null()).then(|| unsafe { Request::from_raw(raw) })
    }

    /// `REDIRECT_URL`; empty if there is no previous request.
    pub fn redirect_url(self) -> &'r [u8] {
        if value!(self.raw, prev).is_null() {
            return b"";
        }
        // SAFETY: there is a previous request; the answer is a string of that request or of this one's pool. [S-64]
        unsafe { c_bytes(sys::wsgi_shim_redirect_url(self.raw)) }
    }

    /// `r->hostname`: the name in `Host`.
    pub fn hostname(self) -> Option<&'r [u8]> {
        text_opt!(self.raw, hostname)
    }

    /// Returns whether `Host` is a name of the request's server in the configuration: in `ServerName`, in `ServerAlias`
    /// (also with wildcards), or in `<VirtualHost>`. If no server has the name, httpd gives the request to the first
    /// server of the address.
    pub fn has_own_host(self) -> bool {
        let host = value!(self.raw, hostname);
        // SAFETY: a C string of the request, which only this thread uses. [S-60] [S-64]
        !host.is_null()
            && unsafe { sys::ap_matches_request_vhost(self.raw, host, self.server().port) != 0 }
    }

    /// Returns whether the port that the request names is one of its server's: that of `ServerName`, that of the
    /// connection, or the default port of a scheme. Clients may write any port.
    pub fn has_own_port(self) -> bool {
        let port = self.server_port();
        matches!(port, 80 | 443) || port == self.server().port || port == self.listener().1
    }

    /// Returns the port in `ServerName`, for requests that name none; 0 for the default port of the scheme.
    pub fn port_of_server(self) -> u16 {
        self.server().port
    }

    /// Returns when the request was received, in microseconds since the epoch.
    pub fn time(self) -> i64 {
        value!(self.raw, request_time)
    }

    /// Returns whether a path info is refused (`AcceptPathInfo Off`).
    pub fn refuses_path_info(self) -> bool {
        value!(self.raw, used_path_info) == sys::AP_REQ_REJECT_PATH_INFO as c_int
    }

    /// Returns the kind of file that the URL was mapped to.
    pub fn file_kind(self) -> FileKind {
        match value!(self.raw, finfo.filetype) {
            sys::APR_NOFILE => FileKind::None,
            sys::APR_DIR => FileKind::Directory,
            _ => FileKind::File,
        }
    }

    /// Returns the modification time of the file, in microseconds since the epoch; `None` if httpd has not stat-ed it.
    pub fn file_mtime(self) -> Option<i64> {
        (self.file_kind() == FileKind::File).then(|| value!(self.raw, finfo.mtime))
    }

    /// `ap_get_server_name_for_url`
    pub fn server_name(self) -> &'r [u8] {
        // SAFETY: reads the request, which only this thread uses; the answer lives as long as the request. [S-64]
        unsafe { c_bytes(sys::ap_get_server_name_for_url(self.raw)) }
    }

    /// `ap_get_server_port`
    pub fn server_port(self) -> u16 {
        // SAFETY: reads the request, which only this thread uses. [S-64]
        unsafe { sys::ap_get_server_port(self.raw) }
    }

    /// Returns the current status of the response.
    pub fn status(self) -> u16 {
        u16::try_from(value!(self.raw, status)).unwrap_or(0)
    }

    /// `ServerName` of the virtual host.
    pub fn server_hostname(self) -> &'r [u8] {
        // SAFETY: a string of the configuration, which does not change while requests are served. [S-64]
        unsafe { c_bytes(self.server().server_hostname) }
    }

    /// `ServerAdmin`
    pub fn server_admin(self) -> Option<&'r [u8]> {
        // SAFETY: null, or a string of the configuration as above. [S-64]
        unsafe { c_bytes_opt(self.server().server_admin) }
    }

    /// Returns the address of the client, which mod_remoteip may have corrected.
    pub fn client_ip(self) -> &'r [u8] {
        text!(self.raw, useragent_ip)
    }

    /// Returns the address of the peer of the connection.
    pub fn peer_ip(self) -> &'r [u8] {
        text!(self.connection(), client_ip)
    }

    /// Returns the port of the peer of the connection.
    pub fn peer_port(self) -> u16 {
        let address = value!(self.connection(), client_addr);
        // SAFETY: null, or an address that lives as long as the connection and does not change. [S-64]
        unsafe { address.as_ref() }.map_or(0, |address| address.port)
    }

    /// Returns the local address of the connection.
    pub fn local_ip(self) -> &'r [u8] {
        text!(self.connection(), local_ip)
    }

    /// Returns the host name (often empty) and the port of the listener.
    pub fn listener(self) -> (&'r [u8], u16) {
        let address = value!(self.connection(), local_addr);
        // SAFETY: null, or an address that lives as long as the connection and does not change. [S-64]
        match unsafe { address.as_ref() } {
            // SAFETY: a C string of the address, or null. [S-64]
            Some(address) => (unsafe { c_bytes(address.hostname) }, address.port),
            None => (b"", 0),
        }
    }

    /// `ap_http_scheme`
    pub fn scheme(self) -> &'r [u8] {
        // SAFETY: only this thread uses the request; the answer is a static string of the module that knows the scheme.
        // [S-64]
        unsafe { c_bytes(sys::ap_run_http_scheme(self.raw)) }
    }

    /// `ap_document_root`
    pub fn document_root(self) -> Option<&'r [u8]> {
        // SAFETY: only this thread uses the request; the answer is null or a string of the configuration or of the
        // request. [S-64]
        unsafe { c_bytes_opt(sys::ap_document_root(self.raw)) }
    }

    /// `ap_context_prefix`
    pub fn context_prefix(self) -> Option<&'r [u8]> {
        // SAFETY: as above.
        unsafe { c_bytes_opt(sys::ap_context_prefix(self.raw)) }
    }

    /// `ap_context_document_root`
    pub fn context_document_root(self) -> Option<&'r [u8]> {
        // SAFETY: as above.
        unsafe { c_bytes_opt(sys::ap_context_document_root(self.raw)) }
    }

    /// Returns whether `CGIVar REQUEST_URI current-uri` is set.
    pub fn request_uri_is_current(self) -> bool {
        // SAFETY: reads the core's configuration of the section through the request, which only this thread uses.
        // [S-64]
        unsafe { sys::wsgi_shim_request_uri_is_current(self.raw) != 0 }
    }

    /// Returns whether `CGIPassAuth On` is set.
    pub fn cgi_pass_auth(self) -> bool {
        // SAFETY: reads the core's configuration of the section through the request, which only this thread uses.
        // [S-64]
        unsafe { sys::wsgi_shim_cgi_pass_auth(self.raw) != 0 }
    }

    /// Returns whether `Options ExecCGI` is set.
    pub fn allows_exec_cgi(self) -> bool {
        // SAFETY: reads the core's configuration of the section through the request, which only this thread uses.
        // [S-64]
        unsafe { sys::ap_allow_options(self.raw) & sys::OPT_EXECCGI as c_int != 0 }
    }

    /// Returns whether each `<Location>` and `<Directory>` that sets this handler for the request also restricts
    /// access.
    pub fn is_guarded(self, handler: &CStr) -> bool {
        // SAFETY: reads the core's configuration of the server, and runs its expressions on the request, which only
        // this thread uses. [S-64]
        unsafe { sys::wsgi_shim_handler_is_guarded(self.raw, handler.as_ptr()) != 0 }
    }

    /// Allows GET and HEAD only, for a status of 405.
    pub fn allow_get(self) {
        // SAFETY: only this thread uses the request, which always has such a list. [S-64]
        unsafe {
            let methods = 1 << sys::M_GET;
            (*self.raw).allowed = methods;
            (*(*self.raw).allowed_methods).method_mask = methods;
        }
    }

    /// Clears the list of allowed methods.
    pub fn allow_none(self) {
        // SAFETY: only this thread uses the request, which always has such a list. [S-64]
        unsafe {
            sys::ap_clear_method_list((*self.raw).allowed_methods);
            (*self.raw).allowed = 0;
        }
    }

    /// Adds allowed methods, given as the value of an `Allow` header, for a status of 405. httpd makes the header of
    /// its error page from the list; it leaves out methods that no module has registered.
    pub fn allow(self, methods: &[u8]) {
        let methods = methods.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // SAFETY: only this thread uses the request, which always has such a list; the copies live as long. [S-64]
        unsafe {
            let list = (*self.raw).allowed_methods;
            for method in methods.filter(|method| !method.is_empty()) {
                sys::ap_method_list_add(list, self.pool().dup(method));
            }
            (*self.raw).allowed = (*list).method_mask;
        }
    }

    /// `LimitRequestBody`; 0 for none.
    pub fn body_limit(self) -> u64 {
        // SAFETY: reads the core's configuration of the section through the request, which only this thread uses.
        // [S-64]
        u64::try_from(unsafe { sys::ap_get_limit_req_body(self.raw) }).unwrap_or(0)
    }

    /// Returns the server's `Timeout`, in seconds.
    pub fn timeout(self) -> u32 {
        u32::try_from(self.server().timeout / 1_000_000)
            .unwrap_or(60)
            .max(1)
    }

    /// Returns whether the first output filter changes contents rather than the protocol.
    pub fn has_content_filter(self) -> bool {
        let first = value!(self.raw, output_filters);
        // SAFETY: the chain belongs to the request, which only this thread uses; the filter's record lives as long as
        // httpd. [S-64]
        unsafe {
            first
                .as_ref()
                .and_then(|filter| filter.frec.as_ref())
                .is_some_and(|record| record.ftype < sys::AP_FTYPE_PROTOCOL)
        }
    }

    /// Returns the log id of the request (`%L`). Makes one if there is none yet.
    pub fn log_id(self) -> &'r [u8] {
        if value!(self.raw, log_id).is_null() {
            let connection = value!(self.raw, connection);
            // SAFETY: only this thread uses the request and its connection; the hook writes a string of the request's
            // pool into the field. [S-57] [S-64]
            unsafe {
                let id = &raw mut (*self.raw).log_id;
                sys::ap_run_generate_log_id(connection, self.raw, id);
            }
        }
        text!(self.raw, log_id)
    }

    /// Returns the log id of the connection, if there is one.
    pub fn connection_log_id(self) -> Option<&'r [u8]> {
        text_opt!(self.connection(), log_id)
    }

    /// Returns the request headers.
    pub fn headers_in(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, headers_in),
            life: PhantomData,
        }
    }

    /// Returns the variables of the request (`SetEnv` and the like).
    pub fn subprocess_env(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, subprocess_env),
            life: PhantomData,
        }
    }

    /// Returns the notes.
    pub fn notes(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, notes),
            life: PhantomData,
        }
    }

    /// Adds `Retry-After` to an error page. `seconds` is a decimal number.
    pub fn retry_after(self, seconds: &'static CStr) {
        // SAFETY: only this thread uses the request and its table; name and value are static. [S-64]
        unsafe {
            let table = (*self.as_ptr()).err_headers_out;
            sys::apr_table_setn(table, c"Retry-After".as_ptr(), seconds.as_ptr());
        }
    }

    /// Writes a line to the log of the request.
    pub fn log(self, level: Level, line: &[u8]) {
        // SAFETY: only this thread uses the request and its connection. [S-55] [S-64]
        unsafe { log::request(self.raw, level, line) }
    }

    /// Returns the highest level of lines that the log of the request takes.
    pub fn log_level(self) -> Level {
        // SAFETY: alive by the contract of `from_raw`.
        unsafe { log::level_of(self.raw) }
    }

    /// Writes a line to the log while another thread may use the request.
    pub fn log_beside(self, level: Level, line: &[u8]) {
        // SAFETY: alive by the contract of `from_raw`; the fields that are read do not change. [S-55]
        unsafe { log::beside(self.raw, level, line) }
    }

    /// Returns whether the connection uses TLS (`ssl_is_https` of mod_ssl).
    pub fn is_https(self) -> bool {
        type IsHttps = unsafe extern "C" fn(*mut sys::conn_rec) -> c_int;
        let function = SSL_IS_HTTPS.load(Ordering::Relaxed);
        if function.is_null() {
            return false;
        }
        let connection = value!(self.raw, connection);
        // SAFETY: mod_ssl.h declares the function so; only this thread uses the connection. [S-64]
        unsafe { std::mem::transmute::<*mut (), IsHttps>(function)(connection) != 0 }
    }

    /// Returns a variable of mod_ssl (`ssl_var_lookup`).
    pub fn ssl_variable(self, name: &[u8]) -> Option<&'r [u8]> {
        type Lookup = unsafe extern "C" fn(
            *mut sys::apr_pool_t,
            *mut sys::server_rec,
            *mut sys::conn_rec,
            *mut sys::request_rec,
            *mut c_char,
        ) -> *mut c_char;
        let function = optional_function(c"ssl_var_lookup")?;
        let (pool, server) = (value!(self.raw, pool), value!(self.raw, server));
        let connection = value!(self.raw, connection);
        // SAFETY: mod_ssl.h declares the function so; only this thread uses the request and the connection, and the
        // answer is a string of the pool. [S-64]
        unsafe {
            let function = std::mem::transmute::<unsafe extern "C" fn(), Lookup>(function);
            let name = self.pool().dup(name);
            c_bytes_opt(function(pool, server, connection, self.raw, name))
        }
    }
}

/// Returns whether httpd has an error page for this status, which `ErrorDocument` can replace. For a status that it
/// does not know, such as 418, httpd would answer 500.
pub fn has_error_page(status: u16) -> bool {
    // SAFETY: looks the number up in a constant table; an unknown number gets the index of 500.
    let index = |status: c_int| unsafe { sys::ap_index_of_response(status) };
    let internal = sys::HTTP_INTERNAL_SERVER_ERROR as c_int;
    let status = c_int::from(status);
    status == internal || ((400..600).contains(&status) && index(status) != index(internal))
}

/// `ssl_is_https` of mod_ssl, or null without mod_ssl.
static SSL_IS_HTTPS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Looks up the functions that each request calls. Called in each child, as modules may have another address after a
/// restart.
pub(crate) fn retrieve_functions() {
    let function =
        optional_function(c"ssl_is_https").map_or(std::ptr::null_mut(), |f| f as *mut ());
    SSL_IS_HTTPS.store(function, Ordering::Relaxed);
}

/// Looks up a function that another module offers (`APR_RETRIEVE_OPTIONAL_FN`).
fn optional_function(name: &CStr) -> sys::apr_opt_fn_t {
    // SAFETY: a lookup by name.
    unsafe { sys::apr_dynamic_fn_retrieve(name.as_ptr()) }
}

/// A table of the request.
#[derive(Clone, Copy)]
pub struct Table<'r> {
    raw: *mut sys::apr_table_t,
    life: PhantomData<&'r ()>,
}

impl<'r> Table<'r> {
    /// Returns the first value of `name`, which is compared without case.
    pub fn get(self, name: &CStr) -> Option<&'r [u8]> {
        // SAFETY: a table of a request that only this thread uses; its strings live as long as the request. [S-64]
        unsafe { c_bytes_opt(sys::apr_table_get(self.raw, name.as_ptr())) }
    }

    /// Sets `name`.
    pub fn set(self, pool: Pool<'r>, name: &'static CStr, value: &[u8]) {
        // SAFETY: as above; the name is static, and the copy lives as long as the request. [S-64]
        unsafe { sys::apr_table_setn(self.raw, name.as_ptr(), pool.dup(value)) }
    }

    /// Removes `name`.
    pub fn unset(self, pool: Pool<'_>, name: &[u8]) {
        // SAFETY: as above; the copy of the name is a C string and no part of the table. [S-64]
        unsafe { sys::apr_table_unset(self.raw, pool.dup(name)) }
    }

    /// Returns keys and values in order; a value may be null.
    pub fn iter(self) -> impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)> {
        (0..).map_while(move |at| self.entry(at))
    }

    /// Returns the entry at index `at`. Looks the array up each time, as the table may have changed.
    fn entry(self, at: usize) -> Option<(&'r [u8], Option<&'r [u8]>)> {
        // SAFETY: as above; a table is an array of entries, whose keys are not null. [S-3] [S-64]
        unsafe {
            let array = &*sys::apr_table_elts(self.raw);
            if at >= usize::try_from(array.nelts).unwrap_or(0) {
                return None;
            }
            let entry = array.elts.cast::<sys::apr_table_entry_t>().add(at).read();
            Some((c_bytes(entry.key), c_bytes_opt(entry.val)))
        }
    }
}
