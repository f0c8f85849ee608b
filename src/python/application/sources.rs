//! Source files of the applications: which of them have changed since they were imported.
//!
//! The list comes from `sys.modules` of every interpreter, which is read again when it has grown or shrunk, and now and
//! then; the files are looked at without the GIL. A file is compared with what it was when it was first seen. As it may
//! have changed between its import and that moment, one that is younger than the last look at the list counts as changed,
//! too.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::ffi;
use rustc_hash::FxHashMap;

use crate::application::script;
use crate::cpython::interpreter::{self, Interpreter};
use crate::cpython::object::{Attached, PyResult, Raised};
use crate::cpython::thread_state;
use crate::host::{self, Level};
use crate::process;
use crate::sync::lock;

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Python starts: what is imported is imported after this moment.
pub(crate) fn begin() {
    lock(&WATCH).get_or_insert_with(|| Watch {
        began: SystemTime::now(),
        lists: FxHashMap::default(),
        files: FxHashMap::default(),
        full: false,
    });
}

/// The path of a source file, imported by an interpreter or loaded as a script, that is no longer as it was when it was
/// first seen. What has changed is told once; of several files at a time, one stands for all. Waits for the GIL, so it is
/// not for a thread that others depend on.
pub fn changed_source() -> Option<Vec<u8>> {
    if process::is_closing() {
        return None;
    }
    // No lock is held while a thread attaches.
    let mut borrowed = Borrowed(lock(&WATCH).take());
    let watch = borrowed.0.as_mut()?;
    for interpreter in interpreter::all() {
        watch.list(interpreter);
    }
    watch.look()
}

/// Has what is watched, and puts it back.
struct Borrowed(Option<Watch>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(watch) = self.0.take() {
            *lock(&WATCH) = Some(watch);
        }
    }
}

/// What is watched.
struct Watch {
    began: SystemTime,
    /// By number of the interpreter.
    lists: FxHashMap<u32, List>,
    files: FxHashMap<Vec<u8>, File>,
    /// There are more than [`MAX_FILES`].
    full: bool,
}

/// When the modules of an interpreter were listed.
#[derive(Clone, Copy)]
struct List {
    modules: usize,
    scripts: usize,
    listed: Instant,
    /// The same, on the clock of files.
    when: SystemTime,
}

struct File {
    /// As it was first seen; `None` if it was not there.
    known: Option<Stamp>,
    /// It was not there when it was looked at last.
    missing: bool,
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Nanoseconds since the epoch.
    modified: i128,
    size: u64,
    inode: u64,
}

/// Files that are watched, at most.
const MAX_FILES: usize = 65_536;

/// How long a list is good although the number of modules is the same.
const LIST_AGAIN: Duration = Duration::from_secs(10);

/// The clock of files may be behind by one tick.
const TICK: Duration = Duration::from_millis(20);

impl Watch {
    /// Adds the files of an interpreter, if its list may be another one than before.
    fn list(&mut self, interpreter: &'static Interpreter) {
        let before = self.lists.get(&interpreter.number()).copied();
        let (when, listed) = (SystemTime::now(), Instant::now());
        let scripts = script::all_in(interpreter);
        let found = thread_state::attach(interpreter, |py| {
            modules(py, |count| {
                before.is_none_or(|before| {
                    count != before.modules
                        || scripts.len() != before.scripts
                        || listed.duration_since(before.listed) >= LIST_AGAIN
                })
            })
            .unwrap_or_else(|raised| {
                py.clear(raised);
                None
            })
        });
        let Some((modules, files)) = found else {
            return;
        };
        let list = List {
            modules,
            scripts: scripts.len(),
            listed,
            when,
        };
        self.lists.insert(interpreter.number(), list);
        let scripts = scripts.iter().map(|script| script.path().to_vec());
        let since = before.map_or(self.began, |before| before.when);
        for path in files.into_iter().chain(scripts) {
            self.add(path, since, when);
        }
    }

    /// `since` is when the file was not imported yet.
    fn add(&mut self, path: Vec<u8>, since: SystemTime, now: SystemTime) {
        if self.files.contains_key(&path) {
            return;
        }
        if self.files.len() >= MAX_FILES {
            if !std::mem::replace(&mut self.full, true) {
                let line = format!("only {MAX_FILES} source files are watched for changes");
                host::log(Level::Warning, &line);
            }
            return;
        }
        let metadata = metadata(&path);
        let mut known = metadata.as_ref().map(stamp);
        // A time in the future says nothing: the file is of a machine with another clock.
        let young = |time: i128| time >= nanoseconds(since - TICK) && time <= nanoseconds(now);
        // What copies a tree often keeps the time of the content, and cannot keep that of the inode.
        let is_young =
            |of: Metadata| young(modified(&of)) || young(time(of.ctime(), of.ctime_nsec()));
        if metadata.is_some_and(is_young)
            && let Some(known) = &mut known
        {
            // Nothing is like this.
            known.modified = i128::MIN;
        }
        let missing = false;
        self.files.insert(path, File { known, missing });
    }

    /// Looks at all files.
    fn look(&mut self) -> Option<Vec<u8>> {
        let mut changed: Option<&Vec<u8>> = None;
        for (path, file) in &mut self.files {
            if file.has_changed(metadata(path).as_ref().map(stamp)) {
                changed = changed.or(Some(path));
            }
        }
        changed.cloned()
    }
}

impl File {
    fn has_changed(&mut self, now: Option<Stamp>) -> bool {
        if now == self.known {
            self.missing = false;
            return false;
        }
        // An editor may be about to put a new one there.
        if now.is_none() && !std::mem::replace(&mut self.missing, true) {
            return false;
        }
        self.known = now;
        self.missing = false;
        true
    }
}

fn metadata(path: &[u8]) -> Option<Metadata> {
    std::fs::metadata(Path::new(OsStr::from_bytes(path))).ok()
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        modified: modified(metadata),
        size: metadata.size(),
        inode: metadata.ino(),
    }
}

fn modified(metadata: &Metadata) -> i128 {
    time(metadata.mtime(), metadata.mtime_nsec())
}

/// Nanoseconds since the epoch.
fn time(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn nanoseconds(time: SystemTime) -> i128 {
    let since = time
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_nanos());
    since.map_or(0, |since| i128::try_from(since).unwrap_or(i128::MAX))
}

/// How many modules the interpreter has, and the source files of them; `None` unless `wanted`, which is told how many.
pub(crate) fn modules(
    py: &Attached<'_>,
    wanted: impl FnOnce(usize) -> bool,
) -> PyResult<Option<(usize, Vec<Vec<u8>>)>> {
    let file = py.interned_latin1(b"__file__")?;
    let mut files = Vec::new();
    // SAFETY: attached. The dictionary is borrowed from the interpreter; no other code has its copy, so what is borrowed
    // from that stays while it is looked at, and so does the dictionary of a module.
    unsafe {
        let all = py.share(ffi::PyImport_GetModuleDict())?;
        let count = all.len()?;
        if !wanted(count) {
            return Ok(None);
        }
        let all = py.own(ffi::PyDict_Copy(all.as_ptr()))?;
        files.reserve(count);
        let (mut at, mut name, mut module) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        while ffi::PyDict_Next(all.as_ptr(), &mut at, &mut name, &mut module) != 0 {
            // Anything else runs code of its own when it is asked for an attribute.
            if ffi::PyModule_Check(module) == 0 {
                continue;
            }
            let mut path = std::ptr::null_mut();
            let dict = ffi::PyModule_GetDict(module);
            if ffi::compat::PyDict_GetItemRef(dict, file.as_ptr(), &mut path) < 0 {
                return Err(Raised);
            }
            if path.is_null() {
                continue;
            }
            let path = py.own(path)?;
            let is_script = || {
                let name = py.share(name);
                name.is_ok_and(|name| name.is_str() && name.to_text().starts_with("_mod_wsgi_"))
            };
            if let Some(path) = path.is_str().then(|| path.to_fs_path(py)).flatten()
                && (path.ends_with(b".py") || is_script())
            {
                files.push(path);
            }
        }
        Ok(Some((count, files)))
    }
}
