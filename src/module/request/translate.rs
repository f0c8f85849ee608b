//! `WSGIScriptAlias`: translates a URL to its script.

use std::ffi::CStr;

use wsgi_core::request::alias::{ScriptAlias, filename};
use wsgi_httpd::module::Answer;
use wsgi_httpd::regex::Regex;
use wsgi_httpd::request::Request;

use crate::config::read::{self, Server};

/// The note that tells httpd's own modules that an alias has set the handler.
const FORCED_TYPE: &CStr = c"alias-forced-type";
/// The note that holds the number of the alias. httpd copies notes when it redirects a request internally.
const ALIAS: &CStr = c"mod_wsgi_rs.alias";
const HANDLER: &CStr = c"wsgi-script";

/// Maps the URL with the first alias that matches it.
pub(crate) fn translate(request: Request<'_>) -> Answer {
    let uri = request.uri();
    let Some((server, _)) = read::of_request(request) else {
        return Answer::Declined;
    };
    if !uri.starts_with(b"/") {
        return Answer::Declined;
    }
    let aliases = server
        .config
        .aliases
        .iter()
        .zip(&server.patterns)
        .enumerate();
    for (number, (alias, pattern)) in aliases {
        if let Some(file) = target(request, uri, alias, pattern.as_deref()) {
            request.set_filename(&file);
            request.set_handler(HANDLER);
            let (pool, notes) = (request.pool(), request.notes());
            notes.set(pool, FORCED_TYPE, HANDLER.to_bytes());
            notes.set(pool, ALIAS, number.to_string().as_bytes());
            return Answer::Ok;
        }
    }
    Answer::Declined
}

/// Returns the file to which an alias maps the URL, if the alias matches.
fn target(
    request: Request<'_>,
    uri: &[u8],
    alias: &ScriptAlias,
    pattern: Option<&Regex>,
) -> Option<Vec<u8>> {
    let target = alias.target.as_bytes();
    match pattern {
        None => Some(filename(target, uri, alias.consumes(uri)?)),
        Some(pattern) => {
            let (target, end) = pattern.substitute(request.pool(), uri, target)?;
            Some(filename(target, uri, end))
        }
    }
}

/// Returns the alias that gave us the request, with its number, unless another module has changed that decision.
pub(crate) fn alias_of<'r>(
    request: Request<'r>,
    server: &'r Server,
) -> Option<(usize, &'r ScriptAlias)> {
    let number = request.notes().get(ALIAS).filter(|_| is_aliased(request))?;
    let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((number, server.config.aliases.get(number)?))
}

/// Returns whether an alias made this a WSGI request, which then needs no `Options ExecCGI`.
pub(crate) fn is_aliased(request: Request<'_>) -> bool {
    request.notes().get(FORCED_TYPE) == Some(HANDLER.to_bytes())
}
