//! `WSGIScriptAlias`: from a URL to its script.

use std::ffi::{CString, c_int};

use wsgi_core::alias::{ScriptAlias, filename};
use wsgi_httpd::guard::guard;
use wsgi_httpd::request::Request;
use wsgi_httpd::{module, sys};

use crate::config::{self, Server};

/// The note by which httpd's own modules know that an alias has decided on the handler.
const FORCED_TYPE: &std::ffi::CStr = c"alias-forced-type";
const HANDLER: &std::ffi::CStr = c"wsgi-script";

pub(crate) unsafe extern "C" fn translate_name(request: *mut sys::request_rec) -> c_int {
    guard(|| {
        // SAFETY: httpd lends the request for the time of the hook.
        let request = unsafe { Request::from_raw(request) };
        match translate(request) {
            Some(()) => sys::OK as c_int,
            None => sys::DECLINED,
        }
    })
}

fn translate(request: Request<'_>) -> Option<()> {
    let uri = request.uri();
    if !uri.starts_with(b"/") {
        return None;
    }
    // SAFETY: the server of a live request.
    let server = unsafe { config::of_server(request.server()) }?;
    let (alias, file) = server
        .config
        .aliases
        .iter()
        .zip(&server.patterns)
        .find_map(|(alias, pattern)| Some((alias, target(request, uri, alias, *pattern)?)))?;
    request.set_filename(&file);
    request.set_handler(HANDLER);
    request.notes().set(FORCED_TYPE, HANDLER);
    let alias: *const ScriptAlias = alias;
    // SAFETY: `alias_of` reads it as what it is; the configuration outlives the request.
    unsafe { module::set_config(request.request_config(), alias.cast_mut().cast()) };
    Some(())
}

/// The file that an alias makes of the URL, if it takes it.
fn target(
    request: Request<'_>,
    uri: &[u8],
    alias: &ScriptAlias,
    pattern: Option<wsgi_httpd::regex::Regex>,
) -> Option<Vec<u8>> {
    match pattern {
        None => Some(filename(alias.target.as_bytes(), uri, alias.consumes(uri)?)),
        Some(pattern) => {
            let replacement = CString::new(alias.target.as_str()).ok()?;
            // SAFETY: two C strings.
            let (target, end) =
                unsafe { pattern.substitute(request.pool(), request.uri_ptr(), replacement.as_ptr()) }?;
            Some(filename(target, uri, end))
        }
    }
}

/// The alias that the request came by, if its decision still stands.
pub(crate) fn alias_of<'r>(request: Request<'r>, _server: &'r Server) -> Option<&'r ScriptAlias> {
    if !is_aliased(request) {
        return None;
    }
    // SAFETY: only `translate` sets the entry, to an alias of the configuration.
    unsafe { module::config(request.request_config()) }
}

/// Whether an alias made this a WSGI request, which then needs no `Options ExecCGI`.
pub(crate) fn is_aliased(request: Request<'_>) -> bool {
    request.notes().get(FORCED_TYPE) == Some(HANDLER.to_bytes())
}
