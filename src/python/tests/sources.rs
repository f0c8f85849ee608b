//! Which source files have changed. Runs in a separate process: the list is that of all interpreters, and each change
//! is reported once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Script, start};
use wsgi_abi::AtExit;

use crate::changed_source;

#[test]
fn changes_are_told_once() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::sources::in_the_child", "--ignored"])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(out.contains("1 passed"), "{out}");
}

/// Returns the result of one call.
fn changed() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    changed_source().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Changes a file so that its time or size is certain to differ.
fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

fn age(path: &Path, seconds: i64) {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let time = if seconds < 0 { now + by } else { now - by };
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// A folder of modules, all of which are old.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(names: &[&str]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for name in names {
            write(&folder.path(name), "here = 1\n");
            age(&folder.path(name), 3600);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.py"))
    }

    /// Makes a script, an hour old, that imports these modules.
    fn script(&self, lines: &str) -> Script {
        let script = Script::new(&format!(
            "sys.path.insert(0, {:?})\n{lines}\n\
             def application(environ, start_response):\n\
             \x20   if 'import' in environ: __import__(environ['import'])\n\
             \x20   return respond(start_response, 'x')\n",
            self.0.path()
        ));
        age(&script.path, 3600);
        script
    }
}

#[test]
#[ignore = "has to be the only one in its process; run by changes_are_told_once"]
fn in_the_child() {
    let names = [
        "s1one", "s1two", "s1sub", "s1lazy", "s1young", "s1copied", "s1future",
    ];
    let folder = Folder::new(&names);
    age(&folder.path("s1future"), -3600);
    let main = folder.script("import s1one, s1two");
    let sub = folder.script("import s1sub, s1one");
    // The clock of the file system has ticks.
    std::thread::sleep(Duration::from_millis(100));
    start();
    assert_eq!(changed(), None);
    assert_eq!(main.text(), "x");
    assert_eq!(sub.request().group("sources").text(), "x");
    assert_eq!(changed(), None, "the first look");

    // A change is reported once, also if the module is in two interpreters, and so is the next one.
    for content in ["here = 22\n", "here = 333\n"] {
        write(&folder.path("s1one"), content);
        assert_eq!(changed(), Some(folder.path("s1one")));
        assert_eq!(changed(), None);
    }
    // Another file, with the same size and time.
    let other = folder.path("s1other");
    write(&other, "here = 444\n");
    let modified = std::fs::metadata(folder.path("s1one")).unwrap().modified();
    let file = std::fs::File::options().write(true).open(&other).unwrap();
    file.set_modified(modified.unwrap()).unwrap();
    std::fs::rename(&other, folder.path("s1one")).unwrap();
    assert_eq!(changed(), Some(folder.path("s1one")));
    // An earlier time.
    age(&folder.path("s1sub"), 7200);
    assert_eq!(changed(), Some(folder.path("s1sub")));
    // Several changes at a time are reported as one.
    write(&folder.path("s1one"), "here = 5\n");
    write(&folder.path("s1two"), "here = 5\n");
    let told = changed();
    assert!(told == Some(folder.path("s1one")) || told == Some(folder.path("s1two")));
    assert_eq!(changed(), None);
    // A script of any name.
    sub.write("def application(environ, start_response): return respond(start_response, 'y')\n");
    assert_eq!(changed(), Some(sub.path.clone()));

    removed(&folder);
    imported_later(&folder, &main);

    // Files that were not imported do not count.
    write(&folder.path("s1nobody"), "here = 1\n");
    assert_eq!(changed(), None);
    crate::lifecycle::stop::configure(crate::lifecycle::stop::ExitPlan {
        at_exit: AtExit::Publish,
        timeout: Duration::from_secs(20),
        single_process: false,
    });
    write(&folder.path("s1one"), "here = 6666\n");
    crate::stop("");
    assert_eq!(changed(), None, "while Python ends");
}

fn removed(folder: &Folder) {
    // The file comes back unchanged: nothing has changed.
    let (there, away) = (folder.path("s1two"), folder.path("s1away"));
    std::fs::rename(&there, &away).unwrap();
    assert_eq!(changed(), None);
    std::fs::rename(&away, &there).unwrap();
    assert_eq!((changed(), changed()), (None, None));
    // The file comes back with another content.
    std::fs::remove_file(&there).unwrap();
    assert_eq!(changed(), None);
    write(&there, "here = 7777\n");
    assert_eq!(changed(), Some(there.clone()));
    // The file stays away, which is reported once, and comes back at last.
    std::fs::remove_file(&there).unwrap();
    assert_eq!((changed(), changed()), (None, Some(there.clone())));
    assert_eq!((changed(), changed()), (None, None));
    write(&there, "here = 8\n");
    assert_eq!(changed(), Some(there));
}

fn imported_later(folder: &Folder, main: &Script) {
    let import = |name: &str| {
        let request = main.request().literal(b"import", Some(name.as_bytes()));
        assert_eq!(request.text(), "x");
    };
    import("s1lazy");
    assert_eq!(changed(), None);
    write(&folder.path("s1lazy"), "here = 99\n");
    assert_eq!(changed(), Some(folder.path("s1lazy")));
    // Changed between the import and the first look: it cannot be known which content was imported.
    import("s1young");
    write(&folder.path("s1young"), "here = 99\n");
    assert_eq!(changed(), Some(folder.path("s1young")));
    assert_eq!(changed(), None);
    // Also if the new content has an old time, as in a copied tree.
    import("s1copied");
    let copy = folder.path("s1copy");
    write(&copy, "here = 99\n");
    age(&copy, 7200);
    std::fs::rename(&copy, folder.path("s1copied")).unwrap();
    assert_eq!(changed(), Some(folder.path("s1copied")));
    assert_eq!(changed(), None);
    // A file from a machine whose clock is ahead does not count as changed.
    import("s1future");
    assert_eq!((changed(), changed()), (None, None));
    write(&folder.path("s1future"), "here = 99\n");
    assert_eq!(changed(), Some(folder.path("s1future")));
}

/// All modules that an interpreter has imported are watched, except those without a source.
#[test]
fn modules_with_a_source() {
    start();
    let script = Script::app(
        "import asyncio, json, sys, types\n\
         class Lazy:\n\
         \x20   def __getattr__(self, name): raise RuntimeError('asked')\n\
         sys.modules['s2lazy'] = Lazy()\n\
         sys.modules['s2other'] = types.ModuleType('s2other')\n\
         sys.modules['s2other'].__file__ = 5\n\
         sys.modules['s2none'] = None\n\
         files = {m.__file__ for m in list(sys.modules.values()) if isinstance(m, types.ModuleType)\n\
         \x20   and isinstance(getattr(m, '__file__', None), str) and m.__file__.endswith('.py')}\n\
         return respond(start_response, '\\n'.join(files))",
    );
    let text = script.request().group("sources-all").text();
    let mut expected: BTreeSet<&str> = text.lines().collect();
    let path = script.path.to_str().unwrap();
    expected.insert(path);
    let all = crate::cpython::interpreter::all();
    let ours = all
        .iter()
        .find(|one| one.identity().group == b"sources-all");
    let (count, files) = crate::cpython::thread_state::attach(ours.unwrap(), |py| {
        crate::application::sources::modules(py, |_| true)
            .unwrap()
            .unwrap()
    });
    let found: Vec<&str> = files
        .iter()
        .map(|file| std::str::from_utf8(file).unwrap())
        .collect();
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert!(count > found.len() && found.len() > 50);
}
