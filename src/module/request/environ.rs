//! The environ of a request, as the entries from which the engine makes a dict.
//!
//! Most entries borrow from the request; new strings lie in its pool. A later entry replaces an earlier one, so the
//! order matters: the variables of the request (`SetEnv` and the like), its headers, the CGI variables, the
//! `mod_wsgi.*` variables.

use std::borrow::Cow;
use std::sync::LazyLock;

use wsgi_abi::keys::{self, KEYS};
use wsgi_abi::{Bytes, EnvEntry, KeyKind};
use wsgi_core::config::Settings;
use wsgi_core::request::environ::{
    HeaderEntry, collapse_slashes, header_entry, header_key, is_https, request_uri, script_name,
    valid_header_name,
};
use wsgi_core::request::proxy::{self, EnvironTable};
use wsgi_httpd::pool::Pool;
use wsgi_httpd::request::Request;

use super::admit::Route;
use super::body::BodyLength;
use super::ours::Ours;

/// The entries, and whether the scheme is https.
pub(super) struct Entries<'a> {
    pub(super) entries: Vec<EnvEntry<'a>>,
    pub(super) https: bool,
}

/// The process id as text, for each environ. Made by the first request of a child.
static PID: LazyLock<String> = LazyLock::new(|| std::process::id().to_string());

/// Makes the entries. Removes request headers whose names are not allowed.
pub(super) fn build<'r>(
    ours: &'r Ours<'_>,
    route: &'r Route<'_>,
    body_length: BodyLength,
) -> Entries<'r> {
    let (request, settings) = (ours.request, &ours.settings);
    let mut builder = Builder {
        request,
        pool: request.pool(),
        entries: Vec::with_capacity(72),
        https: None,
    };
    for (name, value) in request.subprocess_env().iter() {
        match name {
            HTTPS => builder.https = value.map(Cow::Borrowed),
            // For httpd's own CGI scripts, not for applications.
            b"PATH" => {}
            _ => builder.literal(name, value),
        }
    }
    drop_invalid_headers(request);
    let cgi_pass_auth = request.cgi_pass_auth();
    for (name, value) in request.headers_in().iter() {
        match header_entry(name, cgi_pass_auth, route.pass_authorization) {
            HeaderEntry::Withheld => {}
            HeaderEntry::Bare("CONTENT_TYPE") => builder.known(keys::CONTENT_TYPE, value),
            HeaderEntry::Bare(_) if body_length != BodyLength::AsSent => {}
            HeaderEntry::Bare(_) => builder.known(keys::CONTENT_LENGTH, value),
            // mod_http2 has set it; the client has not sent it.
            HeaderEntry::Http if is_framing(name) && !request.is_http1() => {}
            HeaderEntry::Http => builder.push(KeyKind::Header, 0, Bytes::new(name), value),
        }
    }
    if let BodyLength::Bytes(length) = body_length {
        let length = builder.pool.dup_bytes(length.to_string().as_bytes());
        builder.known(keys::CONTENT_LENGTH, Some(length));
    }
    builder.cgi(settings);
    builder.our_own(ours, route);
    let decided = settings
        .trusted_proxy_headers
        .is_some_and(|listed| proxy::apply(&mut builder, listed, settings.trusted_proxies));
    // The scheme that a trusted proxy names takes precedence over the connection.
    let https =
        builder.https.is_some_and(|value| is_https(&value)) || (!decided && request.is_https());
    Entries {
        entries: builder.entries,
        https,
    }
}

/// Returns whether mod_http2 may have set the header.
fn is_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// The variable that the application sees only as `wsgi.url_scheme`.
const HTTPS: &[u8] = b"HTTPS";

/// Removes headers with invalid names from the request, so that later modules and log formats do not see them either.
fn drop_invalid_headers(request: Request<'_>) {
    let headers = request.headers_in();
    if headers.iter().all(|(name, _)| valid_header_name(name)) {
        return;
    }
    let pool = request.pool();
    let invalid: Vec<&[u8]> = headers
        .iter()
        .filter(|(name, _)| !valid_header_name(name))
        .map(|(name, _)| pool.dup_bytes(name))
        .collect();
    for name in invalid {
        headers.unset(pool, name);
    }
}

struct Builder<'r> {
    request: Request<'r>,
    pool: Pool<'r>,
    entries: Vec<EnvEntry<'r>>,
    https: Option<Cow<'r, [u8]>>,
}

impl<'r> Builder<'r> {
    fn push(&mut self, kind: KeyKind, id: u16, key: Bytes<'r>, value: Option<&'r [u8]>) {
        let value = value.into();
        self.entries.push(EnvEntry {
            kind,
            id,
            key,
            value,
        });
    }

    fn known(&mut self, id: u16, value: Option<&'r [u8]>) {
        self.push(KeyKind::Known, id, Bytes::ABSENT, value);
    }

    fn literal(&mut self, key: &'r [u8], value: Option<&'r [u8]>) {
        self.push(KeyKind::Literal, 0, Bytes::new(key), value);
    }

    /// Adds the entry if there is a value.
    fn known_if(&mut self, id: u16, value: Option<&'r [u8]>) {
        if value.is_some() {
            self.known(id, value);
        }
    }

    /// Returns the bytes, copied into the request's pool if they were made for this request.
    fn keep(&self, value: Cow<'r, [u8]>) -> &'r [u8] {
        match value {
            Cow::Borrowed(value) => value,
            Cow::Owned(value) => self.pool.dup_bytes(&value),
        }
    }

    fn number(&self, value: u16) -> &'r [u8] {
        let mut digits = [0; 5];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.pool.dup_bytes(&digits[at..])
    }

    /// Adds the CGI variables (RFC 3875), except those of the headers.
    fn cgi(&mut self, settings: &Settings<'_>) {
        let request = self.request;
        let method = request.method();
        let shows_get = request.header_only()
            && method == b"HEAD"
            && settings
                .map_head_to_get
                .shows_get(request.has_content_filter());
        self.known(
            keys::REQUEST_METHOD,
            Some(if shows_get { b"GET" } else { method }),
        );
        let script = if request.protocol() == b"INCLUDED" {
            request.uri()
        } else {
            script_name(request.uri(), request.path_info())
        };
        let script = self.keep(collapse_slashes(script));
        let path_info = self.keep(collapse_slashes(request.path_info()));
        self.known(keys::SCRIPT_NAME, Some(script));
        self.known(keys::PATH_INFO, Some(path_info));
        self.known(keys::MOD_WSGI_SCRIPT_NAME, Some(script));
        self.known(keys::MOD_WSGI_PATH_INFO, Some(path_info));
        self.known(keys::QUERY_STRING, Some(request.args()));
        let uri = if request.request_uri_is_current() {
            request.uri()
        } else {
            self.keep(request_uri(request.request_line()))
        };
        self.known(keys::REQUEST_URI, Some(uri));
        self.known(keys::SERVER_PROTOCOL, Some(request.protocol()));
        self.known(keys::SERVER_NAME, Some(request.server_name()));
        let port = self.number(request.server_port());
        self.known(keys::SERVER_PORT, Some(port));
        self.known(keys::SERVER_ADDR, Some(request.local_ip()));
        self.known_if(keys::SERVER_ADMIN, request.server_admin());
        self.known(keys::REMOTE_ADDR, Some(request.client_ip()));
        let port = self.number(request.peer_port());
        self.known(keys::REMOTE_PORT, Some(port));
        self.known_if(keys::REMOTE_USER, request.user());
        self.known_if(keys::AUTH_TYPE, request.auth_type());
        if let Some(previous) = request.previous() {
            self.known_if(keys::REDIRECT_REMOTE_USER, previous.user());
            self.known(keys::REDIRECT_URL, Some(request.redirect_url()));
            if !previous.args().is_empty() {
                self.known(keys::REDIRECT_QUERY_STRING, Some(previous.args()));
            }
        }
        self.known_if(keys::DOCUMENT_ROOT, request.document_root());
        self.known_if(keys::CONTEXT_PREFIX, request.context_prefix());
        self.known_if(keys::CONTEXT_DOCUMENT_ROOT, request.context_document_root());
        self.known(keys::REQUEST_SCHEME, Some(request.scheme()));
        let mut filename = request.filename();
        if request.notes().get(c"proxy-noquery").is_some()
            && let Some(query) = filename.iter().position(|&byte| byte == b'?')
        {
            filename = &filename[..query];
        }
        self.known(keys::SCRIPT_FILENAME, Some(filename));
    }

    /// Adds the `mod_wsgi.*` variables.
    fn our_own(&mut self, ours: &'r Ours<'_>, route: &'r Route<'_>) {
        let request = self.request;
        self.known(keys::MOD_WSGI_PROCESS_GROUP, Some(&route.process_group));
        self.known(
            keys::MOD_WSGI_APPLICATION_GROUP,
            Some(&route.application_group),
        );
        self.known(keys::MOD_WSGI_CALLABLE_OBJECT, Some(&route.callable));
        self.known(keys::MOD_WSGI_REQUEST_HANDLER, Some(request.handler()));
        let script = ours.handler_script.map(|script| script.script.as_bytes());
        self.known(
            keys::MOD_WSGI_HANDLER_SCRIPT,
            Some(script.unwrap_or_default()),
        );
        let (host, port) = request.listener();
        let port = self.number(port);
        self.known(keys::MOD_WSGI_LISTENER_HOST, Some(host));
        self.known(keys::MOD_WSGI_LISTENER_PORT, Some(port));
        self.known(keys::MOD_WSGI_SERVER_PID, Some(PID.as_bytes()));
        self.known(keys::MOD_WSGI_REQUEST_ID, Some(request.log_id()));
        self.known_if(keys::MOD_WSGI_CONNECTION_ID, request.connection_log_id());
    }
}

/// Returns whether the entry has this key.
fn is_key(entry: &EnvEntry<'_>, key: &str) -> bool {
    let name = entry.key.get_or_empty();
    match entry.kind {
        KeyKind::Known => KEYS[usize::from(entry.id)] == key,
        KeyKind::Literal => name == key.as_bytes(),
        KeyKind::Header => key.len() == name.len() + 5 && header_key(name) == key.as_bytes(),
    }
}

impl EnvironTable for Builder<'_> {
    fn get(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        if key.as_bytes() == HTTPS {
            return self.https.clone();
        }
        let entry = self.entries.iter().rfind(|entry| is_key(entry, key))?;
        entry.value.get().map(Cow::Borrowed)
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        if key.as_bytes() == HTTPS {
            self.https = Some(Cow::Owned(value));
            return;
        }
        self.unset(key);
        let value = self.pool.dup_bytes(&value);
        match KEYS.iter().position(|known| *known == key) {
            Some(id) => self.known(id as u16, Some(value)),
            None => {
                let key = self.pool.dup_bytes(key.as_bytes());
                self.literal(key, Some(value));
            }
        }
    }

    fn unset(&mut self, key: &str) {
        if key.as_bytes() == HTTPS {
            self.https = None;
            return;
        }
        self.entries.retain(|entry| !is_key(entry, key));
    }
}
