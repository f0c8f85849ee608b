//! `WSGIReload`, as written.

use std::path::PathBuf;

/// `WSGIReload`: how new code takes effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// Only by `wsgictl reload` and a restart.
    Off,
    /// A changed script is executed again in the child that finds the change; its imported modules stay.
    #[default]
    Script,
    /// The children are replaced when a source file of an application changes.
    Modules,
    /// The children are replaced when this file changes.
    Touch(PathBuf),
}

impl Reload {
    /// Returns whether children are replaced for new code, so that they have to load it ahead of the first request.
    pub fn replaces_children(&self) -> bool {
        matches!(self, Reload::Modules | Reload::Touch(_))
    }
}
