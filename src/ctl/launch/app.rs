//! The application to serve: a script file, or a callable in a module, for which a small script is written.

use std::path::{Path, PathBuf};

use crate::output::failure::{Failure, Outcome};
use crate::system::paths;

/// The application of the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum App {
    /// Absolute path of an existing file.
    Script(PathBuf),
    /// A callable to import.
    Import { module: String, callable: String },
}

impl App {
    /// Parses the application. A file of that name takes precedence over a module.
    pub(crate) fn parse(word: &str) -> Outcome<App> {
        let path = Path::new(word);
        if path.exists() {
            return Ok(App::Script(paths::file(path, "")?));
        }
        match word.split_once(':') {
            Some((module, callable)) if is_dotted_name(module) && is_dotted_name(callable) => {
                Ok(App::Import { module: module.to_owned(), callable: callable.to_owned() })
            }
            Some(_) if !word.contains('/') => Err(Failure::new(format!(
                "{word}: this is neither a file nor MODULE:CALLABLE, both of them Python names."
            ))),
            None if is_dotted_name(word) && !word.ends_with(".wsgi") && !word.ends_with(".py") => {
                Err(Failure::new(format!("{word}: there is no such file."))
                    .remedy(format!("To serve from a module, name the callable too: wsgictl serve {word}:application")))
            }
            _ => paths::file(path, "").map(App::Script),
        }
    }
}

/// Returns the script that stands for `module:callable`.
pub(crate) fn import_script(module: &str, callable: &str) -> String {
    format!(
        r#"# Written by wsgictl for {module}:{callable}; the next start writes it again.
import importlib
import sys

try:
    application = importlib.import_module("{module}")
except ModuleNotFoundError as error:
    if error.name is None or not ("{module}" + ".").startswith(error.name + "."):
        raise  # The module is there; something that it imports is not.
    raise ModuleNotFoundError(
        "wsgictl: Python finds no module {module} in " + ", ".join(sys.path)
        + "; start wsgictl in the folder that holds it, or name that folder with --working-directory, "
        "and the Python or virtual environment with --python",
        name=error.name,
    ) from None

for _name in "{callable}".split("."):
    try:
        application = getattr(application, _name)
    except AttributeError:
        raise AttributeError(f"wsgictl: {{application!r}} has no {{_name}}, which {module}:{callable} names") from None

if not callable(application):
    raise TypeError(f"wsgictl: {module}:{callable} is {{application!r}}, which cannot be called")
"#
    )
}

fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        part.chars().all(|c| c == '_' || c.is_alphanumeric())
            && part.chars().next().is_some_and(|first| !first.is_numeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn modules_and_files_are_told_apart() {
        let import = |module: &str, callable: &str| App::Import {
            module: module.into(),
            callable: callable.into(),
        };
        assert_eq!(
            App::parse("mysite.wsgi:application"),
            Ok(import("mysite.wsgi", "application"))
        );
        assert_eq!(
            App::parse("pkg:factory.app"),
            Ok(import("pkg", "factory.app"))
        );
        let dir = tempfile::tempdir().expect("a folder");
        let script = dir.path().join("a:b");
        std::fs::write(&script, "").expect("a file");
        assert_eq!(
            App::parse(script.to_str().expect("text")),
            Ok(App::Script(script))
        );
    }

    #[test]
    fn what_is_neither_is_refused_with_a_hint() {
        let failure = |word| App::parse(word).expect_err("refused").to_string();
        assert!(
            failure("missing.wsgi").ends_with("missing.wsgi: there is no such file or folder.")
        );
        assert!(failure("/no/such/app.py").ends_with("there is no such file or folder."));
        assert!(failure("mysite").contains("wsgictl serve mysite:application"));
        assert!(failure("my-site:app").contains("neither a file nor MODULE:CALLABLE"));
        assert!(failure("site:make()").contains("neither a file nor MODULE:CALLABLE"));
    }

    /// Runs the generated script in a folder with `source` as its module, and returns the last line of Python's output.
    fn python(source: &str, module: &str, callable: &str) -> Option<String> {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("shop.py"), source).expect("a module");
        let script = dir.path().join("app.wsgi");
        std::fs::write(
            &script,
            import_script(module, callable) + "print('ready')\n",
        )
        .expect("a script");
        let output = Command::new("/usr/bin/python3")
            .arg(&script)
            .output()
            .ok()?;
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said)
            .lines()
            .last()
            .map(str::to_owned)
    }

    #[test]
    fn the_generated_script_says_what_is_wrong() {
        if python("", "shop", "x").is_none() {
            return; // No Python here.
        }
        let said = |source, module, callable| python(source, module, callable).unwrap_or_default();
        assert_eq!(said("def app(): pass", "shop", "app"), "ready");
        assert_eq!(
            said("class make:\n    def app(): pass", "shop", "make.app"),
            "ready"
        );
        assert!(
            said("", "shop.inner", "app")
                .contains("wsgictl: Python finds no module shop.inner in ")
        );
        assert!(said("", "store", "app").contains("--working-directory"));
        assert_eq!(
            said("import gone", "shop", "app"),
            "ModuleNotFoundError: No module named 'gone'"
        );
        assert!(said("", "shop", "app").contains("has no app, which shop:app names"));
        assert!(said("app = 1", "shop", "app").contains("shop:app is 1, which cannot be called"));
    }
}
