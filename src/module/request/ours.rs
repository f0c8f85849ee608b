//! Finds out whether a request is ours, and which settings apply to it.

use wsgi_core::config::{HandlerScript, Settings};
use wsgi_core::request::alias::ScriptOptions;
use wsgi_httpd::request::{FileKind, Request};
use wsgi_telemetry::App;

use super::translate;
use super::variables::RequestVariables;
use crate::config::read;
use crate::metrics::applications::app_of;

/// A request that is ours, with its settings.
pub(super) struct Ours<'r> {
    pub(super) request: Request<'r>,
    pub(super) settings: Settings<'r>,
    /// The options of the alias or of the handler script that gave us the request.
    pub(super) options: Option<&'r ScriptOptions>,
    pub(super) handler_script: Option<&'r HandlerScript>,
    /// The application group, if the configuration alone determines it.
    pub(super) known_group: Option<&'r [u8]>,
    /// The values for variables in names of groups.
    pub(super) variables: RequestVariables<'r>,
    /// The application that the request counts for.
    pub(super) app: App,
}

impl<'r> Ours<'r> {
    /// Returns `None` if another handler answers the request.
    pub(super) fn find(request: Request<'r>) -> Option<Self> {
        let name = request.handler();
        let is_script = matches!(name, b"wsgi-script" | b"application/x-httpd-wsgi");
        let (server, dir) = read::of_request(request)?;
        let settings = Settings::resolve(dir, &server.config);
        let handler_script = if is_script {
            None
        } else {
            Some(settings.handler_script(name)?)
        };
        let alias = translate::alias_of(request, server);
        let number = alias.map(|(number, _)| number);
        let is_there =
            number.is_some() || handler_script.is_some() || request.file_kind() == FileKind::File;
        // Clients make up names of files that do not exist; such names get no entry of their own.
        let app = if is_there {
            app_of(server, number, handler_script, request.filename())
        } else {
            App::OTHER
        };
        let of_alias = alias.map(|(_, alias)| &alias.options);
        Some(Self {
            request,
            settings,
            options: handler_script.map(|script| &script.options).or(of_alias),
            handler_script,
            known_group: number.and_then(|number| server.group_of_alias(number, dir)),
            variables: RequestVariables::all(request),
            app,
        })
    }

    /// Returns an option of the alias or handler script, or else `otherwise`.
    pub(super) fn option(
        &self,
        option: fn(&ScriptOptions) -> Option<&String>,
        otherwise: &'r str,
    ) -> &'r str {
        self.options
            .and_then(option)
            .map_or(otherwise, String::as_str)
    }
}
