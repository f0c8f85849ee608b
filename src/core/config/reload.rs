//! How new code is taken up, as written.

use std::path::PathBuf;

/// `WSGIReload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// By nothing but `wsgictl reload` and a restart.
    Off,
    /// A changed script is executed again in the child that meets it; what it has imported stays.
    #[default]
    Script,
    /// A changed source file of an application has the children replaced.
    Modules,
    /// A change of this file has the children replaced.
    Touch(PathBuf),
}

impl Reload {
    /// Whether new code is taken up by replacing children, so that they are to load theirs ahead of the first request.
    pub fn replaces_children(&self) -> bool {
        matches!(self, Reload::Modules | Reload::Touch(_))
    }
}
