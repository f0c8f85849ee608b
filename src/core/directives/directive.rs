//! The row of one directive, and where its value goes.

use crate::config::interpreter_options::InterpreterOptions;
use crate::config::{DirConfig, ServerConfig};

/// One directive.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// Name as written; that of a container begins with `<`, as in httpd's own command table.
    pub name: &'static str,
    /// Where the directive may stand.
    pub context: Context,
    /// Whether the directive may also stand in `<WSGIInterpreterOptions>`.
    pub in_container: bool,
    /// Whether the directive opens a container. Its `set` appends a container to [`ServerConfig::interpreter_options`],
    /// which is then the [`Target::Options`] of the directives inside.
    pub container: bool,
    /// The arguments, for readers.
    pub syntax: &'static str,
    /// The default, for readers; empty if there is none.
    pub default: &'static str,
    /// What the directive does, in a sentence or two.
    pub help: &'static str,
    /// A piece of configuration that uses the directive and loads as it is.
    pub example: &'static str,
    /// How the directive differs from that of mod_wsgi, in a sentence or two; empty if it does not differ, or only as
    /// `effect` says.
    pub difference: &'static str,
    /// Whether the directive does what `help` says in this release.
    pub effect: Effect,
    /// Parses the arguments; called through [`Directive::set`], which adds the name to the error.
    pub(crate) parse: fn(args: &str, target: &mut Target<'_>) -> Result<(), String>,
}

/// Where a directive may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The main server only.
    Global,
    /// The main server and `<VirtualHost>`.
    Server,
    /// Also `<Directory>`, `<Location>` and `<Files>`.
    Directory,
    /// Also `.htaccess` with `AllowOverride FileInfo`.
    FileInfo,
    /// Also `.htaccess` with `AllowOverride AuthConfig`.
    AuthConfig,
}

/// What a directive does in this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What the help says.
    Now,
    /// Nothing yet. The sentence says so, and what the directive will do; it is logged as a warning at start.
    Later(&'static str),
    /// What the help says, except under `httpd -X`, which has a single process.
    ManyProcesses,
    /// Nothing, as in mod_wsgi; the sentence says why.
    Nothing(&'static str),
}

/// Where the value of a directive goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// A server, main or virtual. A directive that may also stand in a directory goes to its `dir`.
    Server(&'a mut ServerConfig),
    /// A directory, location, file or `.htaccess`.
    Directory(&'a mut DirConfig),
    /// An open `<WSGIInterpreterOptions>`.
    Options(&'a mut InterpreterOptions),
}

impl Directive {
    /// Parses the raw arguments into `target`. The error is one sentence that begins with the directive's name.
    pub fn set(&self, args: &str, target: &mut Target<'_>) -> Result<(), String> {
        let args = args.trim_matches(|c: char| c.is_ascii_whitespace());
        (self.parse)(args, target).map_err(|problem| format!("{}: {problem}", self.shown_name()))
    }

    /// Returns the name for readers: `WSGIScriptAlias`, `<WSGIInterpreterOptions>`.
    pub fn shown_name(&self) -> String {
        if self.container {
            format!("{}>", self.name)
        } else {
            self.name.into()
        }
    }
}

impl<'a> Target<'a> {
    /// Returns the configuration for a directive of a directory.
    pub(super) fn dir(&mut self) -> Result<&mut DirConfig, String> {
        match self {
            Target::Server(server) => Ok(&mut server.dir),
            Target::Directory(dir) => Ok(dir),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }

    /// Returns the configuration for a directive of a server.
    pub(super) fn server(&mut self) -> Result<&mut ServerConfig, String> {
        match self {
            Target::Server(server) => Ok(server),
            Target::Directory(_) => Err("not allowed in a directory or location".into()),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }
}
