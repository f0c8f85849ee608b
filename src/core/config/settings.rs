//! The settings of one request, in which every value is resolved.

use std::time::Duration;

use super::deadline::Deadline;
use super::directory::{DirConfig, HandlerScript};
use super::process_group::ProcessGroup;
use super::reload::Reload;
use super::server::ServerConfig;
use crate::request::environ::MapHead;
use crate::request::proxy::ProxyHeader;
use crate::request::subnet::Subnet;

/// The settings of one request.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// `WSGIApplicationGroup`, before expansion.
    pub application_group: &'a str,
    /// `WSGIProcessGroup`, before expansion; `%{GLOBAL}` for embedded.
    pub process_group: &'a str,
    /// The process groups that may be chosen here, for [`may_choose`](crate::request::group::may_choose); `None` for all.
    pub restrict_process: Option<&'a [String]>,
    /// `WSGICallableObject`, before expansion.
    pub callable_object: &'a str,
    /// Whether a changed script is loaded again.
    pub script_reloading: bool,
    /// Whether the environ has `HTTP_AUTHORIZATION`; an alias or handler script may say otherwise.
    pub pass_authorization: bool,
    /// Whether the environ has `apache.request_rec`.
    pub pass_apache_request: bool,
    /// Whether a chunked request body is accepted.
    pub chunked_request: bool,
    /// What `REQUEST_METHOD` says for a HEAD request.
    pub map_head_to_get: MapHead,
    /// Whether `ErrorDocument` replaces the application's own error pages.
    pub error_override: bool,
    /// Whether files are sent with sendfile.
    pub enable_sendfile: bool,
    /// Whether a request keeps no process of a group from its `inactivity-timeout=`.
    pub ignore_activity: bool,
    /// Headers by which a proxy may change the environ; `None` if none may.
    pub trusted_proxy_headers: Option<&'a [ProxyHeader]>,
    /// Peers from which these headers are honoured; `None` for every peer.
    pub trusted_proxies: Option<&'a [Subnet]>,
    /// Whether script names and paths that differ in case are different.
    pub case_sensitive: bool,
    /// Whether Python may not run in the httpd children.
    pub restrict_embedded: bool,
    /// Nanoseconds after which a request counts as slow; 0 for never.
    pub slow_requests: u64,
    /// How long a request may run in a child of httpd; `None` for no limit.
    pub request_timeout: Option<Deadline>,
    /// After how long the stack of the request's thread is logged; `None` for never.
    pub slow_request: Option<Duration>,
    dir: &'a DirConfig,
    server: &'a DirConfig,
}

impl<'a> Settings<'a> {
    /// Resolves all settings; allocates nothing.
    pub fn resolve(dir: &'a DirConfig, server: &'a ServerConfig) -> Settings<'a> {
        macro_rules! value {
            ($field:ident) => {
                dir.$field.or(server.dir.$field)
            };
            (&$field:ident) => {
                dir.$field.as_deref().or(server.dir.$field.as_deref())
            };
        }
        Settings {
            application_group: value!(&application_group).unwrap_or("%{RESOURCE}"),
            process_group: value!(&process_group).unwrap_or("%{GLOBAL}"),
            restrict_process: value!(&restrict_process),
            callable_object: value!(&callable_object).unwrap_or("application"),
            script_reloading: server.reload == Reload::Script
                && value!(script_reloading).unwrap_or(true),
            pass_authorization: value!(pass_authorization).unwrap_or(false),
            pass_apache_request: value!(pass_apache_request).unwrap_or(false),
            chunked_request: value!(chunked_request).unwrap_or(false),
            map_head_to_get: value!(map_head_to_get).unwrap_or(MapHead::Auto),
            error_override: value!(error_override).unwrap_or(false),
            enable_sendfile: value!(enable_sendfile).unwrap_or(false),
            ignore_activity: value!(ignore_activity).unwrap_or(false),
            trusted_proxy_headers: value!(&trusted_proxy_headers),
            trusted_proxies: value!(&trusted_proxies),
            case_sensitive: server.python.case_sensitivity.unwrap_or(true),
            restrict_embedded: server.python.restrict_embedded,
            slow_requests: server.telemetry.slow_requests,
            request_timeout: value!(request_timeout).flatten(),
            slow_request: value!(slow_request).flatten(),
            dir,
            server: &server.dir,
        }
    }

    /// Returns how long a request may run in a process of `group`: `WSGIRequestTimeout`, also Off, or if it is not
    /// written, `request-timeout=` of the group. `None` for no limit.
    pub fn deadline_in(&self, group: &ProcessGroup) -> Option<Deadline> {
        let written = self.dir.request_timeout.or(self.server.request_timeout);
        written.unwrap_or_else(|| group.deadline())
    }

    /// Returns the script for the handler `name` (`r->handler`), if there is one; names are compared exactly.
    pub fn handler_script(&self, name: &[u8]) -> Option<&'a HandlerScript> {
        let named = |script: &&HandlerScript| script.handler.as_bytes() == name;
        self.dir
            .handler_scripts
            .iter()
            .find(named)
            .or_else(|| self.server.handler_scripts.iter().find(named))
    }
}
