//! Our part of httpd's configuration: the function behind every directive, and the check of the whole configuration.
//!
//! A mistake does not stop httpd at once: all mistakes are collected and reported together, each with file and line.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wsgi_core::config::{DirConfig, ServerConfig, WrittenGroup, group_problems, unknown_groups};
use wsgi_core::directives::{Context, DIRECTIVES, Directive, Target};
use wsgi_core::messages::Message;
use wsgi_httpd::command::{Command, Next};
use wsgi_httpd::module::ServerName;
use wsgi_httpd::regex::Regex;
use wsgi_httpd::request::Request;
use wsgi_httpd::sys;
use wsgi_telemetry::App;

use crate::log::{log_at_startup, log_line};

/// The module, with our types of configurations. [`Module`](wsgi_httpd::module::Module) says when each of its functions
/// is called.
pub struct Wsgi;

/// Our configuration of a server.
#[derive(Default)]
pub struct Server {
    /// The directives as written, or merged.
    pub(crate) config: ServerConfig,
    /// The compiled pattern of each alias that has one.
    pub(crate) patterns: Vec<Option<Arc<Regex>>>,
    /// The application of each alias, once there is a segment.
    pub(crate) apps: OnceLock<Vec<App>>,
    /// The application group of each alias, if it is known ahead and the same for all requests.
    pub(crate) groups: OnceLock<Vec<Option<Vec<u8>>>>,
}

impl Server {
    /// Returns the application group of the requests of an alias, whatever port the client names; `None` if each
    /// request makes the name anew.
    pub(crate) fn group_of_alias(&self, number: usize, dir: &DirConfig) -> Option<&[u8]> {
        let group = self.groups.get()?.get(number)?.as_deref()?;
        let alias = self.config.aliases.get(number)?;
        // A section may give its requests another group.
        let is_decided =
            alias.options.application_group.is_some() || dir.application_group.is_none();
        is_decided.then_some(group)
    }
}

/// What was noticed while the configuration was read.
struct Reading {
    /// Whether the current line is inside `<WSGIInterpreterOptions>`.
    in_container: bool,
    mistakes: Vec<String>,
    /// The directives that were used.
    used: Vec<&'static Directive>,
    /// `WSGIApplicationGroup` of directories and locations, as written.
    groups: Vec<String>,
    /// `WSGIProcessGroup` of directories and locations, as written, and the places.
    process_groups: Vec<(String, String)>,
}

static READING: Mutex<Reading> = Mutex::new(NOTHING_READ);

const NOTHING_READ: Reading = Reading {
    in_container: false,
    mistakes: Vec::new(),
    used: Vec::new(),
    groups: Vec::new(),
    process_groups: Vec::new(),
};

fn reading() -> MutexGuard<'static, Reading> {
    READING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets what was noticed before. Called when the configuration is about to be read.
pub(crate) fn open() {
    *reading() = NOTHING_READ;
}

/// Returns the directives that the configuration uses, in the order of their first use.
pub(crate) fn used_directives() -> Vec<&'static Directive> {
    reading().used.clone()
}

/// Returns the groups that sections set for their requests, as written.
pub(crate) fn written_groups() -> Vec<String> {
    reading().groups.clone()
}

/// Returns the groups that sections set for their requests; `None` for a group that requests name.
pub(crate) fn groups_of_sections() -> Vec<Option<Vec<u8>>> {
    let reading = reading();
    let of_handler_scripts = reading
        .used
        .iter()
        .any(|used| used.name == "WSGIHandlerScript");
    let written = reading.groups.iter().map(|written| match written.as_str() {
        "%{GLOBAL}" => Some(Vec::new()),
        text if text.starts_with('%') => None,
        text => Some(text.as_bytes().to_vec()),
    });
    written.chain(of_handler_scripts.then_some(None)).collect()
}

/// Warns of process groups that requests choose, and that are not defined.
pub(crate) fn warn_of_unknown_groups(servers: &[(&Server, ServerName<'_>)]) {
    let written = reading().process_groups.clone();
    let sections = written
        .iter()
        .map(|(name, location)| WrittenGroup { name, location });
    let configs = servers.iter().map(|(server, _)| &server.config);
    for (message, line) in unknown_groups(configs, sections) {
        log_line(message.level(), line.as_bytes());
    }
}

/// Returns our configurations of the server and of the sections of a request.
pub(crate) fn of_request<'r>(request: Request<'r>) -> Option<(&'r Server, &'r DirConfig)> {
    static NOTHING: DirConfig = DirConfig::EMPTY;
    let (server, dir) = request.configs::<Wsgi>();
    Some((server?, dir.unwrap_or(&NOTHING)))
}

/// Returns `WSGISocketPrefix`.
pub(crate) fn socket_prefix<'s>(servers: &[(&'s Server, ServerName<'_>)]) -> Option<&'s str> {
    servers.first()?.0.config.sockets.prefix.as_deref()
}

/// Reports all mistakes. Returns whether there is none.
pub(crate) fn check(servers: &[&Server]) -> bool {
    let mut mistakes = std::mem::take(&mut reading().mistakes);
    mistakes.extend(group_problems(servers.iter().map(|server| &server.config)));
    for mistake in &mistakes {
        log_at_startup(Message::ConfigurationMistake, &[mistake]);
    }
    mistakes.is_empty()
}

/// Reads a directive.
pub(crate) fn directive(
    line: &mut Command<'_>,
    args: &[u8],
    server: Option<&mut Server>,
    dir: &mut DirConfig,
) -> Result<Next, String> {
    let Some(directive) = DIRECTIVES.get(line.number()) else {
        return Ok(Next::Line);
    };
    let Ok(args) = std::str::from_utf8(args) else {
        let name = directive.shown_name();
        return Err(format!("{name}: the line is not valid UTF-8"));
    };
    let Some(server) = server else {
        // `.htaccess`
        return directive
            .set(args, &mut Target::Directory(dir))
            .map(|()| Next::Line);
    };
    match set(line, directive, args, server, dir) {
        Ok(()) if directive.container => {
            reading().in_container = true;
            Ok(Next::Inside)
        }
        Ok(()) => Ok(Next::Line),
        Err(mistake) => {
            let mistake = format!("{}: {mistake}", line.location());
            reading().mistakes.push(mistake);
            Ok(Next::Line)
        }
    }
}

/// Ends `<WSGIInterpreterOptions>`.
pub(crate) fn container_end() {
    reading().in_container = false;
}

fn set(
    line: &mut Command<'_>,
    directive: &'static Directive,
    args: &str,
    server: &mut Server,
    dir: &mut DirConfig,
) -> Result<(), String> {
    if directive.context == Context::Global
        && let Some(why) = line.forbidden(sys::GLOBAL_ONLY)
    {
        return Err(why);
    }
    let in_container = {
        let mut reading = reading();
        if !reading.used.iter().any(|used| used.name == directive.name) {
            reading.used.push(directive);
        }
        reading.in_container
    };
    if in_container {
        let options = server
            .config
            .interpreter_options
            .last_mut()
            .filter(|_| directive.in_container);
        let Some(options) = options else {
            return Err(format!(
                "{} may not stand in <WSGIInterpreterOptions>",
                directive.shown_name()
            ));
        };
        return directive.set(args, &mut Target::Options(options));
    }
    if line.in_section() {
        directive.set(args, &mut Target::Directory(dir))?;
        match directive.name {
            "WSGIApplicationGroup" => reading().groups.extend(dir.application_group.clone()),
            "WSGIProcessGroup" => {
                let written = dir
                    .process_group
                    .clone()
                    .map(|name| (name, line.location()));
                reading().process_groups.extend(written);
            }
            _ => {}
        }
        return Ok(());
    }
    directive.set(args, &mut Target::Server(&mut server.config))?;
    server.config.locate(&line.location());
    compile_patterns(directive, server)
}

/// Compiles the patterns of the aliases that were just read, with httpd's functions.
fn compile_patterns(directive: &Directive, server: &mut Server) -> Result<(), String> {
    for alias in server.config.aliases.iter().skip(server.patterns.len()) {
        let pattern = if alias.regex {
            Regex::compile(&alias.location).map(Arc::new)
        } else {
            None
        };
        let failed = alias.regex && pattern.is_none();
        server.patterns.push(pattern);
        if failed {
            return Err(format!(
                "{}: the regular expression '{}' could not be compiled",
                directive.shown_name(),
                alias.location
            ));
        }
    }
    Ok(())
}
