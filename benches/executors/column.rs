//! The columns: the module of each, and the directives in which they differ.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::subjects::subject::{Application, Contender, Subject, directed};

/// A way to execute requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    contender: Contender,
    directives: String,
}

/// The module files.
pub(crate) struct Files<'o> {
    pub(crate) ours: &'o Path,
    pub(crate) baseline: Option<&'o Path>,
    pub(crate) rival: &'o Path,
}

impl Column {
    /// The columns that are measured unless `--columns` names others.
    pub(crate) const USUAL: [&str; 7] = [
        "direct", "delegate", "pool1", "pool4", "pool16", AUTO, MOD_WSGI,
    ];

    /// Returns the subject of this column; `None`, after a message, if its module does not exist.
    pub(crate) fn subject(&self, python: Option<&Path>, files: &Files) -> Option<Subject> {
        let file = match self.contender {
            Contender::Rival => files.rival,
            Contender::Baseline => files.baseline.unwrap_or(Path::new("--baseline")),
            _ => files.ours,
        };
        directed(self.contender, python, Application::Spin, &self.directives).with_module(file)
    }
}

impl FromStr for Column {
    type Err = anyhow::Error;

    /// Parses the name of a usual column, `poolN`, `none` (no directive), `baseline` (no directive, the module of
    /// `--baseline`), or `NAME=DIRECTIVE; DIRECTIVE`.
    fn from_str(text: &str) -> Result<Self> {
        let column = |contender, directives: String| Self {
            name: text.to_owned(),
            contender,
            directives,
        };
        if let Some((name, directives)) = text.split_once('=')
            && !name.contains(' ')
        {
            let lines: Vec<&str> = directives.split(';').map(str::trim).collect();
            return Ok(Self {
                name: name.to_owned(),
                contender: Contender::Ours,
                directives: lines.join("\n") + "\n",
            });
        }
        Ok(match text {
            "direct" | "delegate" | "auto" => {
                column(Contender::Ours, format!("WSGIExecutor {text}\n"))
            }
            "none" => column(Contender::Ours, String::new()),
            "baseline" => column(Contender::Baseline, String::new()),
            MOD_WSGI => column(Contender::Rival, String::new()),
            _ => match text.strip_prefix("pool").map(str::parse::<usize>) {
                Some(Ok(size)) if size > 0 => column(
                    Contender::Ours,
                    format!("WSGIExecutor pool\nWSGIThreadPool size={size}\n"),
                ),
                _ => bail!(
                    "no such column; there are {}, none, baseline, poolN for any N, and NAME=DIRECTIVE; DIRECTIVE",
                    Self::USUAL.join(", ")
                ),
            },
        })
    }
}

/// The column on which the verdict is passed.
pub(crate) const AUTO: &str = "auto";
/// The column that it must beat.
pub(crate) const MOD_WSGI: &str = "mod_wsgi";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_directives() {
        let directives = |text: &str| text.parse::<Column>().map(|column| column.directives).ok();
        assert_eq!(directives("auto"), Some("WSGIExecutor auto\n".into()));
        assert_eq!(
            directives("pool16"),
            Some("WSGIExecutor pool\nWSGIThreadPool size=16\n".into())
        );
        assert_eq!(directives("mod_wsgi"), Some(String::new()));
        assert_eq!(
            directives("five=WSGIExecutor delegate min=5; WSGIQueue depth=9"),
            Some("WSGIExecutor delegate min=5\nWSGIQueue depth=9\n".into())
        );
        for wrong in ["pool", "pool0", "poolx", "fast", ""] {
            assert_eq!(directives(wrong), None, "{wrong}");
        }
        assert!(Column::USUAL.iter().all(|name| directives(name).is_some()));
    }

    #[test]
    fn a_column_of_ones_own_has_the_name_before_the_sign() {
        let column: Column = "k5=WSGIExecutor delegate max=5".parse().expect("a column");
        assert_eq!(
            (column.name.as_str(), column.contender),
            ("k5", Contender::Ours)
        );
    }
}
