//! The configuration of a directory, a location or a whole server as written, and how an inner scope is merged onto an
//! outer one.

use std::time::Duration;

use super::deadline::Deadline;
use crate::request::alias::ScriptOptions;
use crate::request::environ::MapHead;
use crate::request::proxy::ProxyHeader;
use crate::request::subnet::Subnet;

/// The directives of a directory, a location or a whole server, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DirConfig {
    /// `WSGIApplicationGroup`, before expansion.
    pub application_group: Option<String>,
    /// `WSGIProcessGroup`, before expansion.
    pub process_group: Option<String>,
    /// `WSGICallableObject`, before expansion.
    pub callable_object: Option<String>,
    /// `WSGIScriptReloading`.
    pub script_reloading: Option<bool>,
    /// `WSGIPassAuthorization`.
    pub pass_authorization: Option<bool>,
    /// `WSGIPassApacheRequest`.
    pub pass_apache_request: Option<bool>,
    /// `WSGIChunkedRequest`.
    pub chunked_request: Option<bool>,
    /// `WSGIMapHEADToGET`.
    pub map_head_to_get: Option<MapHead>,
    /// `WSGIErrorOverride`.
    pub error_override: Option<bool>,
    /// `WSGIEnableSendfile`.
    pub enable_sendfile: Option<bool>,
    /// `WSGIIgnoreActivity`.
    pub ignore_activity: Option<bool>,
    /// `WSGITrustedProxyHeaders`, in order, without unknown names.
    pub trusted_proxy_headers: Option<Vec<ProxyHeader>>,
    /// `WSGITrustedProxies`.
    pub trusted_proxies: Option<Vec<Subnet>>,
    /// `WSGIRestrictProcess`; "" stands for `%{GLOBAL}`.
    pub restrict_process: Option<Vec<String>>,
    /// `WSGIRequestTimeout`; the inner `None` is Off.
    pub request_timeout: Option<Option<Deadline>>,
    /// `WSGISlowRequestStack`; the inner `None` is Off.
    pub slow_request: Option<Option<Duration>>,
    /// `WSGIHandlerScript`, one per handler name.
    pub handler_scripts: Vec<HandlerScript>,
    /// `WSGIDispatchScript`.
    pub dispatch_script: Option<AuxiliaryScript>,
    /// `WSGIAccessScript`.
    pub access_script: Option<AuxiliaryScript>,
    /// `WSGIAuthUserScript`.
    pub auth_user_script: Option<AuxiliaryScript>,
    /// `WSGIAuthGroupScript`.
    pub auth_group_script: Option<AuxiliaryScript>,
}

/// A `WSGIHandlerScript`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerScript {
    /// Name for `SetHandler` and `AddHandler`.
    pub handler: String,
    /// The script whose `handle_request` serves.
    pub script: String,
    /// The options; `callable_object` is never set.
    pub options: ScriptOptions,
}

/// A script for dispatch, access or authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuxiliaryScript {
    /// Path of the script.
    pub script: String,
    /// `application-group=`; "" for `%{GLOBAL}`, to which mod_wsgi defaults for `None`.
    pub application_group: Option<String>,
}

impl DirConfig {
    /// The configuration without any directive.
    pub const EMPTY: DirConfig = DirConfig {
        application_group: None,
        process_group: None,
        callable_object: None,
        script_reloading: None,
        pass_authorization: None,
        pass_apache_request: None,
        chunked_request: None,
        map_head_to_get: None,
        error_override: None,
        enable_sendfile: None,
        ignore_activity: None,
        trusted_proxy_headers: None,
        trusted_proxies: None,
        restrict_process: None,
        request_timeout: None,
        slow_request: None,
        handler_scripts: Vec::new(),
        dispatch_script: None,
        access_script: None,
        auth_user_script: None,
        auth_group_script: None,
    };

    /// Returns the values of `inner` where it has them, else those of `outer`. A list replaces the other as a whole,
    /// except handler scripts: these are merged by name, and `inner` wins.
    pub fn merge(outer: &Self, inner: &Self) -> Self {
        macro_rules! inner_or_outer {
            ($($field:ident),+) => {
                DirConfig {
                    handler_scripts: merge_handlers(&outer.handler_scripts, &inner.handler_scripts),
                    $($field: inner.$field.clone().or_else(|| outer.$field.clone()),)+
                }
            };
        }
        inner_or_outer!(
            application_group,
            process_group,
            callable_object,
            script_reloading,
            pass_authorization,
            pass_apache_request,
            chunked_request,
            map_head_to_get,
            error_override,
            enable_sendfile,
            ignore_activity,
            trusted_proxy_headers,
            trusted_proxies,
            restrict_process,
            request_timeout,
            slow_request,
            dispatch_script,
            access_script,
            auth_user_script,
            auth_group_script
        )
    }

    /// Adds a handler script, or replaces the one with the same name.
    pub(crate) fn set_handler_script(&mut self, new: HandlerScript) {
        match self
            .handler_scripts
            .iter_mut()
            .find(|old| old.handler == new.handler)
        {
            Some(old) => *old = new,
            None => self.handler_scripts.push(new),
        }
    }
}

fn merge_handlers(outer: &[HandlerScript], inner: &[HandlerScript]) -> Vec<HandlerScript> {
    let hidden = |old: &&HandlerScript| inner.iter().any(|new| new.handler == old.handler);
    outer
        .iter()
        .filter(|old| !hidden(old))
        .chain(inner)
        .cloned()
        .collect()
}
