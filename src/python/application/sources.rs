//! Finds source files of the applications that have changed since they were imported.
//!
//! The list comes from `sys.modules` of every interpreter. It is read again when the number of modules has changed, and
//! now and then; the files are checked without the GIL. A file is compared with its state when it was first seen. It
//! may have changed between its import and that moment, so a file that is younger than the last reading of the list
//! counts as changed, too.

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

/// Notes that Python starts: everything is imported after this moment.
pub(crate) fn begin() {
    lock(&WATCH).get_or_insert_with(|| Watch {
        began: SystemTime::now(),
        lists: FxHashMap::default(),
        files: FxHashMap::default(),
        full: false,
    });
}

/// Returns the path of a source file, imported by an interpreter or loaded as a script, that has changed since it was
/// first seen. A change is reported once; of several changed files, one is returned. Waits for the GIL, so it must not
/// be called by a thread that others depend on.
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

/// Takes the watch out of [`WATCH`], and puts it back when dropped.
struct Borrowed(Option<Watch>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(watch) = self.0.take() {
            *lock(&WATCH) = Some(watch);
        }
    }
}

/// The lists of modules and the files that are watched.
struct Watch {
    began: SystemTime,
    /// The lists by the number of the interpreter.
    lists: FxHashMap<u32, List>,
    files: FxHashMap<Vec<u8>, File>,
    /// Whether there are more than [`MAX_FILES`] files.
    full: bool,
}

/// The last listing of an interpreter's modules.
#[derive(Clone, Copy)]
struct List {
    modules: usize,
    scripts: usize,
    listed: Instant,
    /// The time of `listed` on the clock of the file system.
    when: SystemTime,
}

struct File {
    /// The file as it was first seen; `None` if it was missing.
    known: Option<Stamp>,
    /// Whether the file was missing at the last check.
    missing: bool,
}

/// Distinguishes one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Modification time in nanoseconds since the epoch.
    modified: i128,
    size: u64,
    inode: u64,
}

/// The most files that are watched.
const MAX_FILES: usize = 65_536;

/// How long a list is valid while the number of modules does not change.
const LIST_AGAIN: Duration = Duration::from_secs(10);

/// How far the clock of the file system may be behind: one tick.
const TICK: Duration = Duration::from_millis(20);

impl Watch {
    /// Adds the files of an interpreter, if its list may have changed.
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

    /// Adds a file that was imported after `since`.
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
        // A time in the future proves nothing: the file is from a machine with another clock.
        let young = |time: i128| time >= nanoseconds(since - TICK) && time <= nanoseconds(now);
        // Programs that copy a tree often keep the modification time, but cannot keep the change time of the inode.
        let is_young =
            |of: Metadata| young(modified(&of)) || young(time(of.ctime(), of.ctime_nsec()));
        if metadata.is_some_and(is_young)
            && let Some(known) = &mut known
        {
            // No file has this time, so the next check reports a change.
            known.modified = i128::MIN;
        }
        let missing = false;
        self.files.insert(path, File { known, missing });
    }

    /// Checks all files. Returns one that has changed.
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
        // An editor may be about to put a new file there.
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

/// Converts a time to nanoseconds since the epoch.
fn time(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn nanoseconds(time: SystemTime) -> i128 {
    let since = time
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_nanos());
    since.map_or(0, |since| i128::try_from(since).unwrap_or(i128::MAX))
}

/// Returns how many modules the interpreter has, and their source files; `None` if `wanted`, which gets the number,
/// returns `false`.
pub(crate) fn modules(
    py: &Attached<'_>,
    wanted: impl FnOnce(usize) -> bool,
) -> PyResult<Option<(usize, Vec<Vec<u8>>)>> {
    let file = py.interned_latin1(b"__file__")?;
    let mut files = Vec::new();
    // SAFETY: attached. The dictionary is borrowed from the interpreter. No other code has its copy, so items borrowed
    // from the copy stay alive during the loop, and so does the dictionary of a module.
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
            // Any other object may run code of its own when an attribute is read.
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
