//! Packages that refuse the interpreter they are imported into: fake ones that raise the real texts from where real
//! ones do, and the real ones, if there are any.

use std::path::{Path, PathBuf};

use super::host::server_logged;
use super::{ERROR, Script, start};
use crate::application::refusal;
use crate::application::refusal::{Kind, Refusal};
use crate::cpython::{interpreter, thread_state};

const CYTHON: &str = "Interpreter change detected - this module can only be loaded into one interpreter per process.";
const PYO3: &str =
    "PyO3 modules do not yet support subinterpreters, see https://github.com/PyO3/pyo3/issues/576";
const NUMPY: &str = "cannot load module more than once per process";

/// Makes a folder of modules from the path and source of each.
fn modules(files: &[(&str, String)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    for (path, source) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, source).unwrap();
    }
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

/// Returns the answer of `_refusal` for the exception that `statement` raises.
fn refused(folder: &str, statement: &str) -> String {
    let lines = statement.replace('\n', "\n    ");
    Script::app(&format!(
        "import mod_wsgi\n\
         sys.path.insert(0, {folder:?})\n\
         try:\n\
         \x20   {lines}\n\
         except BaseException as error:\n\
         \x20   return respond(start_response, mod_wsgi._refusal(error))\n\
         finally:\n\
         \x20   sys.path.remove({folder:?})\n\
         return respond(start_response, 'imported')"
    ))
    .text()
}

/// Finds compiled modules whose initialization raises. That is C code, and CPython removes its own frames from a
/// traceback, so the frames that the application sees end at the import statement.
const COMPILED: &str = "
import sys

LOADER = '''
class Loader:
    def __init__(self, text): self.text = text
    def create_module(self, spec): raise ImportError(self.text)
    def exec_module(self, module): pass
'''
external = {'__name__': 'importlib._bootstrap_external'}
exec(compile(LOADER, '<frozen importlib._bootstrap_external>', 'exec'), external)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        import importlib.machinery
        if name in TEXTS:
            return importlib.machinery.ModuleSpec(name, external['Loader'](TEXTS[name]))

sys.meta_path.insert(0, Finder)
";

fn raising(text: &str) -> String {
    format!("raise ImportError({text:?})\n")
}

#[test]
fn fake_packages() {
    let (_dir, folder) = modules(&[
        // The compiled part raises while the package imports it.
        ("r1pure/__init__.py", String::from("from . import core\n")),
        ("r1pure/core.py", raising(NUMPY)),
        // A package that uses another one, whose compiled part has a name of its own.
        ("r1user/__init__.py", String::from("import r1core\n")),
        ("r1core/__init__.py", raising(PYO3)),
        // Wrapped, once with a cause and once without.
        (
            "r1wraps.py",
            format!(
                "try:\n raise ImportError({CYTHON:?})\n\
                 except ImportError as error:\n raise RuntimeError('no database driver') from error\n"
            ),
        ),
        (
            "r1passing.py",
            format!("try:\n raise ImportError({NUMPY:?})\nexcept ImportError:\n {{}}['x']\n"),
        ),
        (
            "r1named.py",
            String::from(
                "raise ImportError('module r1real._parts.fast does not support loading in subinterpreters')\n",
            ),
        ),
        (
            "r1private.py",
            String::from(
                "raise ImportError('module _r1private does not support loading in subinterpreters')\n",
            ),
        ),
        (
            "r1other.py",
            String::from("raise ImportError('no such thing')\n"),
        ),
        ("r1value.py", format!("raise ValueError({CYTHON:?})\n")),
    ]);
    for (statement, expected) in [
        ("import r1pure", "('r1pure', 'r1pure.core')"),
        ("import r1pure.core", "('r1pure', 'r1pure.core')"),
        ("import r1user", "('r1core', 'r1core')"),
        ("import r1wraps", "('r1wraps', 'r1wraps')"),
        ("import r1passing", "('r1passing', 'r1passing')"),
        ("import r1named", "('r1real', 'r1real._parts.fast')"),
        ("import r1private", "('r1private', '_r1private')"),
        ("import r1other", "None"),
        ("import r1value", "None"),
        ("import r1nowhere", "None"),
        ("{}['x']", "None"),
        // Only the text, and a chain without an end.
        (
            "raise ImportError('module a.b does not support loading in subinterpreters')",
            "('a', 'a.b')",
        ),
        (
            "one, two = ValueError(), KeyError()\n\
             one.__context__, two.__context__ = two, one\n\
             raise one",
            "None",
        ),
    ] {
        assert_eq!(refused(&folder, statement), expected, "{statement}");
    }
}

/// If no frame belongs to the package, the statement itself shows which module it imports.
#[test]
fn compiled_modules_leave_no_frame() {
    let loader = format!(
        "TEXTS = {{'r2pkg.etree': {CYTHON:?}, '_r2yaml': {PYO3:?}, 'r2flat': {NUMPY:?}}}\n{COMPILED}"
    );
    let relative = "from .. import etree\n";
    let (_dir, folder) = modules(&[
        ("r2loader.py", loader),
        ("r2pkg/__init__.py", String::from("here = 1\n")),
        ("r2pkg/sub/__init__.py", String::from(relative)),
        ("r2pkg/sub/two.py", String::new()),
        ("r2yaml/__init__.py", String::from("import _r2yaml\n")),
        (
            "r2app/__init__.py",
            String::from("from r2pkg import here, etree\n"),
        ),
    ]);
    assert_eq!(refused(&folder, "import r2loader"), "imported");
    for (statement, expected) in [
        ("import r2pkg.etree", "('r2pkg', 'r2pkg.etree')"),
        ("from r2pkg import etree", "('r2pkg', 'r2pkg.etree')"),
        ("from r2pkg import here, etree", "('r2pkg', 'r2pkg.etree')"),
        ("from r2pkg.etree import a, b", "('r2pkg', 'r2pkg.etree')"),
        ("import r2pkg.sub.two", "('r2pkg', 'r2pkg.etree')"),
        ("import r2app", "('r2pkg', 'r2pkg.etree')"),
        ("import r2yaml", "('r2yaml', '_r2yaml')"),
        ("import r2flat", "('r2flat', 'r2flat')"),
        ("import _r2yaml", "('_r2yaml', '_r2yaml')"),
        ("__import__('r2flat')", "('?', '?')"),
        (
            "import importlib\nimportlib.import_module('r2pkg.etree')",
            "('r2pkg', 'r2pkg.etree')",
        ),
        (
            "import importlib\nimportlib.import_module('.etree', 'r2pkg')",
            "('r2pkg', 'r2pkg.etree')",
        ),
    ] {
        assert_eq!(refused(&folder, statement), expected, "{statement}");
    }
}

#[test]
fn kind_and_names() {
    start();
    let main = *interpreter::all().last().unwrap();
    for (own_gil, kind) in [(false, Kind::Second), (true, Kind::OwnGil)] {
        let found = thread_state::attach(main, |py| {
            let class = py
                .import(c"builtins")
                .and_then(|all| all.attr(py, c"ImportError"));
            let text = "module a.b does not support loading in subinterpreters";
            let error = class.and_then(|class| class.call(py, [&py.str(text)?]));
            let error = error.unwrap();
            refusal::of(py, &error, own_gil).unwrap()
        });
        let (package, module) = (String::from("a"), String::from("a.b"));
        assert_eq!(
            found,
            Some(Refusal {
                package,
                module,
                kind
            })
        );
    }
}

#[test]
fn told_once_for_each_application() {
    start();
    let refusal = |package: &str, kind| Refusal {
        package: package.to_owned(),
        module: format!("{package}.fast"),
        kind,
    };
    let one = refusal("r3one", Kind::Second);
    let two = refusal("r3two", Kind::OwnGil);
    for _ in 0..3 {
        refusal::report(&one, "/a.wsgi", "sub-interpreter 'a'", None);
        refusal::report(&two, "/a.wsgi", "sub-interpreter 'a'", None);
        refusal::report(&one, "/b.wsgi", "sub-interpreter 'a'", None);
    }
    for (script, count) in [("/a.wsgi", 1), ("/b.wsgi", 1), ("/c.wsgi", 0)] {
        let line = format!(
            "WSGI1030: package 'r3one' can be loaded into one interpreter of a process only, and WSGI script '{script}' \
             wants it in sub-interpreter 'a' (module r3one.fast); put the applications that use it into one group: \
             WSGIApplicationGroup %{{GLOBAL}}, or WSGIInterpreter main"
        );
        assert_eq!(super::host::server_lines(ERROR, &line), count);
    }
    assert!(server_logged(
        ERROR,
        "WSGI1031: package 'r3two' cannot be loaded into an interpreter with its own GIL, and WSGI script '/a.wsgi' wants \
         it in sub-interpreter 'a' (module r3two.fast); set WSGIGILMode auto or shared for this group"
    ));
}

/// Returns the folder of modules of a virtual environment that has the real packages.
fn site_packages() -> Option<PathBuf> {
    let home = std::env::var_os("WSGI_TEST_PACKAGES")?;
    let name = format!("lib/python{}/site-packages", crate::VERSION);
    Some(Path::new(&home).join(name))
}

/// WSGI_TEST_PACKAGES names a virtual environment with these packages, because most machines have none.
#[test]
fn real_packages() {
    let Some(folder) = site_packages() else {
        return;
    };
    let folder = folder.to_str().unwrap();
    let ask = |group: &str, statement: &str| {
        let script = Script::app(&format!(
            "import mod_wsgi\n\
             if {folder:?} not in sys.path: sys.path.insert(0, {folder:?})\n\
             try: {statement}\n\
             except BaseException as error: return respond(start_response, mod_wsgi._refusal(error))\n\
             return respond(start_response, 'imported')"
        ));
        script.request().group(group).text()
    };
    for (statement, package) in [
        ("import numpy", "numpy"),
        ("import pydantic", "pydantic_core"),
        ("from lxml import etree", "lxml"),
        ("import sqlalchemy", "sqlalchemy"),
        ("import cryptography.x509", "cryptography"),
    ] {
        assert_eq!(ask("real-first", statement), "imported", "{statement}");
        let second = ask("real-second", statement);
        let expected = format!("('{package}', '{package}");
        assert!(second.starts_with(&expected), "{statement}: {second}");
    }
}
