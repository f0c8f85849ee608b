//! A request, as its handler sees it.

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::log::{self, Level};
use crate::module::Module;
use crate::pool::Pool;
use crate::record::entry;
use crate::{c_bytes, c_bytes_opt, sys};

/// A field of a record of httpd, read as it is now. By address, as C writes other fields of the record meanwhile, so that no
/// reference to the whole of it may exist.
macro_rules! value {
    ($record:expr, $($field:ident).+) => {
        // SAFETY: the record of a live request, or its connection, used by this thread alone. [S-64]
        unsafe { (&raw const (*$record).$($field).+).read() }
    };
}

/// A field that is a C string, as bytes; empty for null.
macro_rules! text {
    ($record:expr, $field:ident) => {{
        let text = value!($record, $field);
        // SAFETY: null, or a C string of a pool that lives as long as the request; httpd replaces such strings and does not
        // change them. [S-64]
        unsafe { c_bytes(text) }
    }};
}

/// The same; `None` for null.
macro_rules! text_opt {
    ($record:expr, $field:ident) => {{
        let text = value!($record, $field);
        // SAFETY: as above. [S-64]
        unsafe { c_bytes_opt(text) }
    }};
}

/// A request, lent by httpd for the time of a hook. Neither `Send` nor `Sync`: it stays on the thread of the hook, unless the
/// module says otherwise in an `unsafe impl` of its own.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    raw: *mut sys::request_rec,
    life: PhantomData<&'r sys::request_rec>,
}

/// What the URL was mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing is there.
    None,
    /// A directory.
    Directory,
    /// A file, or another thing that is neither of the two.
    File,
}

impl<'r> Request<'r> {
    /// # Safety
    /// `raw` must be a live request_rec during `'r`. While a value that was made of it is used by one thread, no other thread
    /// may use the record, its connection or their pools, but for [`Self::log_beside`]. [S-64]
    pub(crate) unsafe fn from_raw(raw: *mut sys::request_rec) -> Self {
        Self {
            raw,
            life: PhantomData,
        }
    }

    /// The record.
    pub fn as_ptr(self) -> *mut sys::request_rec {
        self.raw
    }

    /// The pool that lives as long as the request.
    pub fn pool(self) -> Pool<'r> {
        let pool = value!(self.raw, pool);
        // SAFETY: the pool ends with the request, and is used by the thread that uses the request. [S-64]
        unsafe { Pool::from_raw(pool) }
    }

    /// The server or virtual host.
    fn server(self) -> &'r sys::server_rec {
        let server = value!(self.raw, server);
        // SAFETY: every request has a server, which outlives it and is not written to while requests are served. [S-64]
        unsafe { &*server }
    }

    /// The connection, which outlives the request.
    fn connection(self) -> *const sys::conn_rec {
        value!(self.raw, connection)
    }

    /// Our configurations of the server and of the section; the latter is there only where a directive was used.
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
        // SAFETY: this thread uses the request alone; a static string. [S-64]
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
        // SAFETY: this thread uses the request alone; the copy lives as long. [S-64]
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

    /// Whether this is to make the page for an error, by an internal redirect (`ErrorDocument`).
    pub fn is_error_page(self) -> bool {
        !value!(self.raw, prev).is_null()
            && value!(self.raw, status) >= sys::HTTP_BAD_REQUEST as c_int
    }

    /// Whether it is the page for an error after which the connection ends, so that httpd reads nothing more of it
    /// (`ap_status_drops_connection`).
    pub fn has_lost_its_body(self) -> bool {
        self.is_error_page()
            && matches!(
                value!(self.raw, status),
                400 | 408 | 411 | 413 | 414 | 500 | 501 | 503
            )
    }

    /// Whether it is a part of another one, which mod_include for instance asks for; those have no bodies.
    pub fn is_subrequest(self) -> bool {
        !value!(self.raw, main).is_null()
    }

    /// Whether the protocol is a version of HTTP/1, or older: only there a client says by `Transfer-Encoding` how its
    /// body is framed. mod_http2 sets it, too, for itself.
    pub fn is_http1(self) -> bool {
        let protocol = self.protocol();
        protocol.starts_with(b"HTTP/1") || protocol.starts_with(b"HTTP/0")
    }

    /// Whether the body may be read without waiting: nothing but filters of the protocol and of the connection lie
    /// between the handler and the client.
    pub fn reads_from_protocol(self) -> bool {
        // SAFETY: looks at the chain of filters, which belongs to the request and so to this thread. [S-40] [S-64]
        unsafe { sys::wsgi_shim_reads_from_protocol(self.raw) != 0 }
    }

    /// Whether the body that the filters give is known to be as long as `Content-Length` says.
    pub fn keeps_length(self) -> bool {
        // SAFETY: as above; filters are registered before there are requests. [S-64]
        unsafe { sys::wsgi_shim_keeps_length(self.raw) != 0 }
    }

    /// Whether the method is HEAD.
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

    /// The request that was redirected to this one.
    pub fn previous(self) -> Option<Request<'r>> {
        let raw = value!(self.raw, prev);
        // SAFETY: lives as long as this request, and is used by the same thread. [S-64]
        (!raw.is_null()).then(|| unsafe { Request::from_raw(raw) })
    }

    /// `REDIRECT_URL`; only where there is a previous request.
    pub fn redirect_url(self) -> &'r [u8] {
        if value!(self.raw, prev).is_null() {
            return b"";
        }
        // SAFETY: there is a previous request; the answer is a string of it, or of this one's pool. [S-64]
        unsafe { c_bytes(sys::wsgi_shim_redirect_url(self.raw)) }
    }

    /// `r->hostname`: the name in `Host`.
    pub fn hostname(self) -> Option<&'r [u8]> {
        text_opt!(self.raw, hostname)
    }

    /// Whether `Host` names the server of the request as the configuration does: by `ServerName`, `ServerAlias` (also one
    /// with wildcards), or in `<VirtualHost>`. Where no server has the name, the first one of the address serves the
    /// request.
    pub fn has_own_host(self) -> bool {
        let host = value!(self.raw, hostname);
        // SAFETY: a C string of the request, which this thread uses alone. [S-60] [S-64]
        !host.is_null()
            && unsafe { sys::ap_matches_request_vhost(self.raw, host, self.server().port) != 0 }
    }

    /// Whether the port that the request names is one that its server has: that of `ServerName`, the one that the
    /// connection came to, or the usual one of a scheme. Clients may write any other.
    pub fn has_own_port(self) -> bool {
        let port = self.server_port();
        matches!(port, 80 | 443) || port == self.server().port || port == self.listener().1
    }

    /// The port of a request to this server that names none; 0 for the usual one of its scheme.
    pub fn port_of_server(self) -> u16 {
        self.server().port
    }

    /// When the request was received, microseconds since the epoch.
    pub fn time(self) -> i64 {
        value!(self.raw, request_time)
    }

    /// Whether a path info is refused (`AcceptPathInfo Off`).
    pub fn refuses_path_info(self) -> bool {
        value!(self.raw, used_path_info) == sys::AP_REQ_REJECT_PATH_INFO as c_int
    }

    /// What kind of thing the URL was mapped to.
    pub fn file_kind(self) -> FileKind {
        match value!(self.raw, finfo.filetype) {
            sys::APR_NOFILE => FileKind::None,
            sys::APR_DIR => FileKind::Directory,
            _ => FileKind::File,
        }
    }

    /// Modification time of the file, microseconds since the epoch; `None` where httpd has not stat-ed it.
    pub fn file_mtime(self) -> Option<i64> {
        (self.file_kind() == FileKind::File).then(|| value!(self.raw, finfo.mtime))
    }

    /// `ap_get_server_name_for_url`
    pub fn server_name(self) -> &'r [u8] {
        // SAFETY: reads the request, which this thread uses alone; the answer lives as long. [S-64]
        unsafe { c_bytes(sys::ap_get_server_name_for_url(self.raw)) }
    }

    /// `ap_get_server_port`
    pub fn server_port(self) -> u16 {
        // SAFETY: reads the request, which this thread uses alone. [S-64]
        unsafe { sys::ap_get_server_port(self.raw) }
    }

    /// Status of the response as far as it is known.
    pub fn status(self) -> u16 {
        u16::try_from(value!(self.raw, status)).unwrap_or(0)
    }

    /// `ServerName` of the virtual host.
    pub fn server_hostname(self) -> &'r [u8] {
        // SAFETY: a string of the configuration, which is not changed while requests are served. [S-64]
        unsafe { c_bytes(self.server().server_hostname) }
    }

    /// `ServerAdmin`
    pub fn server_admin(self) -> Option<&'r [u8]> {
        // SAFETY: as above, or null. [S-64]
        unsafe { c_bytes_opt(self.server().server_admin) }
    }

    /// Address of the client, as mod_remoteip may have corrected it.
    pub fn client_ip(self) -> &'r [u8] {
        text!(self.raw, useragent_ip)
    }

    /// Address of the peer of the connection.
    pub fn peer_ip(self) -> &'r [u8] {
        text!(self.connection(), client_ip)
    }

    /// Port of the peer of the connection.
    pub fn peer_port(self) -> u16 {
        let address = value!(self.connection(), client_addr);
        // SAFETY: null, or an address that lives as long as the connection and is not written to. [S-64]
        unsafe { address.as_ref() }.map_or(0, |address| address.port)
    }

    /// Address that the connection came to.
    pub fn local_ip(self) -> &'r [u8] {
        text!(self.connection(), local_ip)
    }

    /// Host name (often none) and port of the listener.
    pub fn listener(self) -> (&'r [u8], u16) {
        let address = value!(self.connection(), local_addr);
        // SAFETY: null, or an address that lives as long as the connection and is not written to. [S-64]
        match unsafe { address.as_ref() } {
            // SAFETY: a C string of the address, or null. [S-64]
            Some(address) => (unsafe { c_bytes(address.hostname) }, address.port),
            None => (b"", 0),
        }
    }

    /// `ap_http_scheme`
    pub fn scheme(self) -> &'r [u8] {
        // SAFETY: this thread uses the request alone; the answer is a static string of the module that knows the scheme.
        // [S-64]
        unsafe { c_bytes(sys::ap_run_http_scheme(self.raw)) }
    }

    /// `ap_document_root`
    pub fn document_root(self) -> Option<&'r [u8]> {
        // SAFETY: this thread uses the request alone; the answer is a string of the configuration or of the request, or
        // null. [S-64]
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

    /// Whether `CGIVar REQUEST_URI current-uri` is set.
    pub fn request_uri_is_current(self) -> bool {
        // SAFETY: reads the core's configuration of the section, by way of the request, which this thread uses alone. [S-64]
        unsafe { sys::wsgi_shim_request_uri_is_current(self.raw) != 0 }
    }

    /// Whether `CGIPassAuth On` is set.
    pub fn cgi_pass_auth(self) -> bool {
        // SAFETY: reads the core's configuration of the section, by way of the request, which this thread uses alone. [S-64]
        unsafe { sys::wsgi_shim_cgi_pass_auth(self.raw) != 0 }
    }

    /// Whether `Options ExecCGI` is set.
    pub fn allows_exec_cgi(self) -> bool {
        // SAFETY: reads the core's configuration of the section, by way of the request, which this thread uses alone. [S-64]
        unsafe { sys::ap_allow_options(self.raw) & sys::OPT_EXECCGI as c_int != 0 }
    }

    /// Whether each `<Location>` and `<Directory>` that gives this handler to the request also restricts access.
    pub fn is_guarded(self, handler: &CStr) -> bool {
        // SAFETY: reads the core's configuration of the server, and runs expressions of it on the request, which this thread
        // uses alone. [S-64]
        unsafe { sys::wsgi_shim_handler_is_guarded(self.raw, handler.as_ptr()) != 0 }
    }

    /// Says that only GET and HEAD are answered, for a status of 405.
    pub fn allow_get(self) {
        // SAFETY: this thread uses the request alone, which always has such a list. [S-64]
        unsafe {
            let methods = 1 << sys::M_GET;
            (*self.raw).allowed = methods;
            (*(*self.raw).allowed_methods).method_mask = methods;
        }
    }

    /// Forgets which methods are answered.
    pub fn allow_none(self) {
        // SAFETY: this thread uses the request alone, which always has such a list. [S-64]
        unsafe {
            sys::ap_clear_method_list((*self.raw).allowed_methods);
            (*self.raw).allowed = 0;
        }
    }

    /// Says that these methods are answered, too, as the value of an `Allow` does, for a status of 405. httpd makes the header
    /// of its own page from that; it leaves out methods that no module has registered.
    pub fn allow(self, methods: &[u8]) {
        let methods = methods.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // SAFETY: this thread uses the request alone, which always has such a list; the copies live as long. [S-64]
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
        // SAFETY: reads the core's configuration of the section, by way of the request, which this thread uses alone. [S-64]
        u64::try_from(unsafe { sys::ap_get_limit_req_body(self.raw) }).unwrap_or(0)
    }

    /// `Timeout` of the server, seconds.
    pub fn timeout(self) -> u32 {
        u32::try_from(self.server().timeout / 1_000_000)
            .unwrap_or(60)
            .max(1)
    }

    /// Whether the first output filter changes contents rather than the protocol.
    pub fn has_content_filter(self) -> bool {
        let first = value!(self.raw, output_filters);
        // SAFETY: the chain belongs to the request, which this thread uses alone; the filter's record lives as long as
        // httpd. [S-64]
        unsafe {
            first
                .as_ref()
                .and_then(|filter| filter.frec.as_ref())
                .is_some_and(|record| record.ftype < sys::AP_FTYPE_PROTOCOL)
        }
    }

    /// Log id of the request (`%L`), made now if there is none yet.
    pub fn log_id(self) -> &'r [u8] {
        if value!(self.raw, log_id).is_null() {
            let connection = value!(self.raw, connection);
            // SAFETY: this thread uses the request and its connection alone; the hook writes a string of the request's pool
            // into the field. [S-57] [S-64]
            unsafe {
                let id = &raw mut (*self.raw).log_id;
                sys::ap_run_generate_log_id(connection, self.raw, id);
            }
        }
        text!(self.raw, log_id)
    }

    /// Log id of the connection, if there is one.
    pub fn connection_log_id(self) -> Option<&'r [u8]> {
        text_opt!(self.connection(), log_id)
    }

    /// Request headers.
    pub fn headers_in(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, headers_in),
            life: PhantomData,
        }
    }

    /// Variables of the request (`SetEnv` and the like).
    pub fn subprocess_env(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, subprocess_env),
            life: PhantomData,
        }
    }

    /// Notes.
    pub fn notes(self) -> Table<'r> {
        Table {
            raw: value!(self.raw, notes),
            life: PhantomData,
        }
    }

    /// Has an error page say when to ask again, seconds.
    pub fn retry_after(self, seconds: &'static CStr) {
        // SAFETY: this thread uses the request alone, whose table it is; name and value are static. [S-64]
        unsafe {
            let table = (*self.as_ptr()).err_headers_out;
            sys::apr_table_setn(table, c"Retry-After".as_ptr(), seconds.as_ptr());
        }
    }

    /// Logs a line.
    pub fn log(self, level: Level, line: &[u8]) {
        // SAFETY: this thread uses the request and its connection alone. [S-55] [S-64]
        unsafe { log::request(self.raw, level, line) }
    }

    /// Logs a line while another thread may use the request.
    pub fn log_beside(self, level: Level, line: &[u8]) {
        // SAFETY: alive by the contract of `from_raw`; what is read is not written to meanwhile. [S-55]
        unsafe { log::beside(self.raw, level, line) }
    }

    /// Whether the connection uses TLS (`ssl_is_https` of mod_ssl).
    pub fn is_https(self) -> bool {
        type IsHttps = unsafe extern "C" fn(*mut sys::conn_rec) -> c_int;
        let function = SSL_IS_HTTPS.load(Ordering::Relaxed);
        if function.is_null() {
            return false;
        }
        let connection = value!(self.raw, connection);
        // SAFETY: mod_ssl.h declares the function so; this thread uses the connection alone. [S-64]
        unsafe { std::mem::transmute::<*mut (), IsHttps>(function)(connection) != 0 }
    }

    /// A variable of mod_ssl (`ssl_var_lookup`).
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
        // SAFETY: mod_ssl.h declares the function so; request and connection are used by this thread alone, and the answer is
        // a string of the pool. [S-64]
        unsafe {
            let function = std::mem::transmute::<unsafe extern "C" fn(), Lookup>(function);
            let name = self.pool().dup(name);
            c_bytes_opt(function(pool, server, connection, self.raw, name))
        }
    }
}

/// Whether httpd has a page for an error of this status, and `ErrorDocument` takes it. For what it does not know, as 418, it
/// would answer with 500.
pub fn has_error_page(status: u16) -> bool {
    // SAFETY: looks the number up in a constant table, in which what is not there stands for 500.
    let index = |status: c_int| unsafe { sys::ap_index_of_response(status) };
    let internal = sys::HTTP_INTERNAL_SERVER_ERROR as c_int;
    let status = c_int::from(status);
    status == internal || ((400..600).contains(&status) && index(status) != index(internal))
}

/// `ssl_is_https` of mod_ssl, or null without mod_ssl.
static SSL_IS_HTTPS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Looks up what every request asks for; in each child, as modules may lie elsewhere after a restart.
pub(crate) fn retrieve_functions() {
    let function =
        optional_function(c"ssl_is_https").map_or(std::ptr::null_mut(), |f| f as *mut ());
    SSL_IS_HTTPS.store(function, Ordering::Relaxed);
}

/// A function that another module offers (`APR_RETRIEVE_OPTIONAL_FN`).
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
    /// The first value of `name`, in any case.
    pub fn get(self, name: &CStr) -> Option<&'r [u8]> {
        // SAFETY: a table of a request that this thread uses alone; its strings live as long as the request. [S-64]
        unsafe { c_bytes_opt(sys::apr_table_get(self.raw, name.as_ptr())) }
    }

    /// Sets `name`.
    pub fn set(self, pool: Pool<'r>, name: &'static CStr, value: &[u8]) {
        // SAFETY: as above; the name is static, and the copy lives as long as the request. [S-64]
        unsafe { sys::apr_table_setn(self.raw, name.as_ptr(), pool.dup(value)) }
    }

    /// Removes `name`.
    pub fn unset(self, pool: Pool<'_>, name: &[u8]) {
        // SAFETY: as above; the name is copied so that it is a C string and no part of the table. [S-64]
        unsafe { sys::apr_table_unset(self.raw, pool.dup(name)) }
    }

    /// Keys and values in order; a value may be null.
    pub fn iter(self) -> impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)> {
        (0..).map_while(move |at| self.entry(at))
    }

    /// Looks the array up each time, as the table may have changed. Its strings live as long as the request.
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
