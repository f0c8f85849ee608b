//! What is known of one directive.

use crate::config::interpreter_options::InterpreterOptions;
use crate::config::{DirConfig, ServerConfig};

/// One directive.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// Name as written; a container's begins with `<`, as in httpd's own command table.
    pub name: &'static str,
    /// Where it may stand.
    pub context: Context,
    /// Whether it may also stand in `<WSGIInterpreterOptions>`.
    pub in_container: bool,
    /// Whether it opens a container. Its `set` appends one to [`ServerConfig::interpreter_options`]; the directives
    /// inside then go to that as [`Target::Options`].
    pub container: bool,
    /// Its arguments, for readers.
    pub syntax: &'static str,
    /// Its default, for readers; empty where it has none.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub help: &'static str,
    /// A piece of configuration that uses it and loads as it stands.
    pub example: &'static str,
    /// Where it differs from the directive of mod_wsgi, in a sentence or two; empty where only `effect` says so, or nothing.
    pub difference: &'static str,
    /// Whether it does what `help` says in this release.
    pub effect: Effect,
    /// How its arguments become a value; called through [`Directive::set`], which adds the name to the error.
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
    /// What its help says.
    Now,
    /// Nothing yet; the sentence says so and what it will do. For a warning at start.
    Later(&'static str),
    /// Nothing: it describes daemon processes, and all requests are served in the httpd children.
    Daemon,
    /// Nothing, in mod_wsgi neither; the sentence says why.
    Nothing(&'static str),
}

/// Where the value of a directive goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// A server, main or virtual. What may also stand in a directory goes to its `dir`.
    Server(&'a mut ServerConfig),
    /// A directory, location, file or `.htaccess`.
    Directory(&'a mut DirConfig),
    /// An open `<WSGIInterpreterOptions>`.
    Options(&'a mut InterpreterOptions),
}

impl Directive {
    /// Reads the raw arguments into `target`. The error is one sentence that begins with the directive's name.
    pub fn set(&self, args: &str, target: &mut Target<'_>) -> Result<(), String> {
        let args = args.trim_matches(|c: char| c.is_ascii_whitespace());
        (self.parse)(args, target).map_err(|problem| format!("{}: {problem}", self.shown_name()))
    }

    /// The name for readers: `WSGIScriptAlias`, `<WSGIInterpreterOptions>`.
    pub fn shown_name(&self) -> String {
        if self.container {
            format!("{}>", self.name)
        } else {
            self.name.into()
        }
    }
}

impl<'a> Target<'a> {
    /// Where a value of a directory goes.
    pub(super) fn dir(&mut self) -> Result<&mut DirConfig, String> {
        match self {
            Target::Server(server) => Ok(&mut server.dir),
            Target::Directory(dir) => Ok(dir),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }

    /// Where a value of a server goes.
    pub(super) fn server(&mut self) -> Result<&mut ServerConfig, String> {
        match self {
            Target::Server(server) => Ok(server),
            Target::Directory(_) => Err("not allowed in a directory or location".into()),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }
}
