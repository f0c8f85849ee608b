//! Decides whether a request may run: checks it in mod_wsgi's order, and returns a [`Route`] or [`Refused`].

use std::borrow::Cow;
use std::ffi::c_int;
use std::fmt::Display;

use wsgi_abi::Engine;
use wsgi_core::messages::Message;
use wsgi_core::request::group;
use wsgi_httpd::request::FileKind;

use super::body::Body;
use super::ours::Ours;
use super::refused::Refused;
use super::timeline::Rejection;
use super::translate::is_aliased;
use super::variables::RequestVariables;
use crate::children::retire;
use crate::config::single_process;
use crate::daemon;
use crate::engine::host::HostRequests;
use crate::engine::start;

/// The callable of a `WSGIHandlerScript`.
const HANDLE_REQUEST: &[u8] = b"handle_request";

/// The process that runs a request.
pub(super) enum Place {
    /// This child of httpd.
    Here(Engine<HostRequests>),
    /// A process of a group.
    In(&'static daemon::client::GroupClient),
}

/// The application that a request runs, and where it runs.
pub(super) struct Route<'r> {
    pub(super) place: Place,
    /// The name of the process group; empty for httpd's children.
    pub(super) process_group: Cow<'r, [u8]>,
    /// The script that defines the callable.
    pub(super) script: &'r [u8],
    pub(super) callable: Cow<'r, [u8]>,
    /// The application group that the application sees in its environ.
    pub(super) application_group: Cow<'r, [u8]>,
    /// The application group whose interpreter runs the request, if it differs.
    own_group: Option<Cow<'r, [u8]>>,
    pub(super) pass_authorization: bool,
    pub(super) body: Body<'r>,
}

impl Route<'_> {
    /// Returns the application group whose interpreter runs the request.
    pub(super) fn interpreter_group(&self) -> &[u8] {
        self.own_group.as_ref().unwrap_or(&self.application_group)
    }
}

/// Checks the request, and returns what to run for it.
pub(super) fn admit<'r>(ours: &'r Ours<'r>) -> Result<Route<'r>, Refused> {
    let (request, settings) = (ours.request, &ours.settings);
    let filename = request.filename();
    let refused = |status, message| {
        let shown = String::from_utf8_lossy(filename);
        Refused::logged(status, message, &[&shown])
    };
    if ours.handler_script.is_none() {
        check_file(ours).map_err(|(status, message)| refused(status, message))?;
    }
    if request.refuses_path_info() && !request.path_info().is_empty() {
        let shown = [filename, request.path_info()].map(String::from_utf8_lossy);
        let [filename, path_info] = &shown;
        return Err(Refused::logged(
            404,
            Message::PathInfoRefused,
            &[filename, path_info],
        ));
    }
    let body = Body::of(request);
    body.check(settings)?;
    let written = ours.option(
        |options| options.process_group.as_ref(),
        settings.process_group,
    );
    let process_group = match written {
        _ if single_process::is_on() => Cow::Borrowed(&b""[..]),
        written => group::process_group(written, &ours.variables, settings.case_sensitive),
    };
    let place = match &process_group[..] {
        b"" if settings.restrict_embedded => {
            return Err(refused(500, Message::EmbeddedRestricted));
        }
        b"" => match start::engine() {
            Some(engine) => Place::Here(engine),
            None if retire::is_held_off() => return Err(Refused::later(Rejection::NotLoaded)),
            None => return Err(refused(500, Message::PythonAbsent)),
        },
        name => Place::In(find_group(ours, name)?),
    };
    let written = ours.option(
        |options| options.application_group.as_ref(),
        settings.application_group,
    );
    let own_group = match ours.known_group {
        Some(group) => Some(Cow::Borrowed(group)),
        // A name that no server has must not create an interpreter. The application still sees the name, as with
        // mod_wsgi.
        None if written.starts_with('%') && ours.variables.may_be_made_up(written) => {
            Some(Cow::Owned(own_group(ours, written)))
        }
        None => None,
    };
    let callable = match ours.handler_script {
        Some(_) => HANDLE_REQUEST.into(),
        None => group::callable_object(
            ours.option(
                |options| options.callable_object.as_ref(),
                settings.callable_object,
            ),
            &ours.variables,
        ),
    };
    Ok(Route {
        place,
        process_group,
        script: ours
            .handler_script
            .map_or(filename, |script| script.script.as_bytes()),
        callable,
        application_group: group::application_group(
            written,
            &ours.variables,
            settings.case_sensitive,
        ),
        own_group,
        pass_authorization: ours
            .options
            .and_then(|options| options.pass_authorization)
            .unwrap_or(settings.pass_authorization),
        body,
    })
}

/// Returns the process group of this name, if the request may use it.
fn find_group(
    ours: &Ours<'_>,
    name: &[u8],
) -> Result<&'static daemon::client::GroupClient, Refused> {
    let refused = |message| {
        let shown = [name, ours.request.filename()].map(String::from_utf8_lossy);
        Refused::logged(500, message, &[&shown[0], &shown[1]])
    };
    if !group::may_choose(ours.settings.restrict_process, name) {
        return Err(refused(Message::ProcessRestricted));
    }
    let group = daemon::client::find(name).ok_or_else(|| refused(Message::ProcessUnknown))?;
    let script = ours
        .handler_script
        .map_or(ours.request.filename(), |script| script.script.as_bytes());
    match group.refusal_of(script) {
        None => Ok(group),
        Some(why) => {
            let shown = [script, name].map(String::from_utf8_lossy);
            let values: [&dyn Display; 3] = [&shown[0], &shown[1], &why];
            Err(Refused::logged(403, Message::ScriptOwnerRefused, &values))
        }
    }
}

/// Returns the application group to use where the client has made up a part of the name.
fn own_group(ours: &Ours<'_>, written: &str) -> Vec<u8> {
    let variables = RequestVariables {
        only_own: true,
        ..ours.variables
    };
    group::application_group(written, &variables, ours.settings.case_sensitive).into_owned()
}

/// Checks a script that the URL was mapped to as a file [M-6].
fn check_file(ours: &Ours<'_>) -> Result<(), (c_int, Message)> {
    let request = ours.request;
    if !is_aliased(request) && !request.allows_exec_cgi() {
        return Err((403, Message::ExecCgiOff));
    }
    match request.file_kind() {
        FileKind::None => Err((404, Message::ScriptNotFound)),
        FileKind::Directory => Err((403, Message::ScriptIsDirectory)),
        FileKind::File => Ok(()),
    }
}
