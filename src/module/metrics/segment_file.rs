//! The memory of the segment, and the file by which `wsgictl` finds it.
//!
//! The memory has no name, and its size is sealed: truncating a file cannot end a process of the server by `SIGBUS`.
//! The parent holds its descriptor. The file `mod_wsgi_rs.segment` in `DefaultRuntimeDir` names that descriptor, and
//! also has a copy of the memory (see [`wsgi_telemetry::published`]).
//!
//! The file is refreshed about every ten seconds. A restart makes it anew if it is gone or is another file. Its
//! descriptor is not kept open: children could write with it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};
use wsgi_core::messages::Message;
use wsgi_httpd::process;
use wsgi_httpd::retained::Retained;
use wsgi_telemetry::published::{self, Origin};
use wsgi_telemetry::{Geometry, Segment, memory};

use crate::log::{log_info, log_message};

/// The name of the file in `DefaultRuntimeDir`, and of the memory.
const FILE: &str = "mod_wsgi_rs.segment";

/// The mode of the file: httpd's group may read it.
const MODE: u32 = 0o640;

/// The file that this copy of the module has made.
static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

struct Shown {
    path: PathBuf,
    /// The device and inode number that identify the file.
    identity: (u64, u64),
    /// Whether it was logged that the file cannot be written.
    complained: bool,
}

fn shown() -> MutexGuard<'static, Option<Shown>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the memory of a segment, and keeps its descriptor.
pub(crate) fn make_memory(retained: Retained, geometry: Geometry) -> io::Result<Segment> {
    let cells = match sealed(geometry) {
        Ok((memory, cells)) => {
            retained.keep_memory(Some(memory));
            cells
        }
        Err(error) => {
            let why = format!("memory with a descriptor: {error}");
            log_message(Message::SegmentHidden, &[&why]);
            retained.keep_memory(None);
            memory::anonymous(geometry.words())?
        }
    };
    let segment = Segment::create(cells, geometry, std::process::id()).map_err(io::Error::other)?;
    segment.note_resident(resident(retained).unwrap_or(0));
    Ok(segment)
}

/// Returns how many bytes of the memory have been allocated so far; `None` if the kernel does not tell.
pub(crate) fn resident(retained: Retained) -> Option<u64> {
    let (_, memory) = retained.memory()?;
    let found = File::from(memory).metadata().ok()?;
    // `stat(2)` counts blocks of 512 bytes.
    Some(found.blocks() * 512)
}

/// Makes sealed memory. Returns its descriptor and the mapping.
fn sealed(geometry: Geometry) -> io::Result<(OwnedFd, &'static [AtomicU64])> {
    // A write beyond the limit would end this process by SIGXFSZ.
    if let Some(limit) = getrlimit(Resource::Fsize).current
        && geometry.bytes() as u64 > limit
    {
        let why = format!("a file may have {limit} bytes (RLIMIT_FSIZE)");
        return Err(io::Error::other(why));
    }
    memory::sealed(FILE, geometry.words())
}

/// Makes or refreshes the file when a configuration has come into force. `start` is when the segment was made.
pub(crate) fn show(retained: Retained, segment: Segment, start: u64) {
    let Some((known, memory)) = known(retained, start) else {
        return;
    };
    if let Some(shown) = shown().as_ref() {
        let what = match shown.refresh(segment, &memory, known) {
            Ok(()) => return,
            Err(error) => format!("'{}' is made anew: {error}", shown.path.display()),
        };
        log_info(&what);
    }
    match Shown::make(segment, &memory, known) {
        Ok(made) => {
            log_info(&format!(
                "wsgictl finds the segment by '{}'",
                made.path.display()
            ));
            *shown() = Some(made);
        }
        Err(why) => {
            log_message(Message::SegmentHidden, &[&why]);
            *shown() = None;
        }
    }
}

/// Copies the memory into the file again, every few seconds.
pub(crate) fn refresh(retained: Retained, segment: Segment, start: u64) {
    let mut shown = shown();
    let (Some(shown), Some((known, memory))) = (shown.as_mut(), known(retained, start)) else {
        return;
    };
    match shown.refresh(segment, &memory, known) {
        Ok(()) => shown.complained = false,
        Err(_) if shown.complained => {}
        Err(error) => {
            shown.complained = true;
            let path = shown.path.display().to_string();
            log_message(Message::SegmentFile, &[&path, &error]);
        }
    }
}

/// Removes the file's name when httpd ends, if the name still belongs to the file. Must not log.
pub(crate) fn remove() {
    if let Some(shown) = shown().take()
        && fs::symlink_metadata(&shown.path).is_ok_and(|found| identity(&found) == shown.identity)
    {
        // The log is closed, and a stale file does no harm.
        let _ = fs::remove_file(&shown.path);
    }
}

fn known(retained: Retained, start: u64) -> Option<(Origin, OwnedFd)> {
    let (descriptor, memory) = retained.memory()?;
    let parent = std::process::id();
    let known = Origin {
        parent,
        start,
        descriptor,
    };
    Some((known, memory))
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl Shown {
    /// Makes a new file that httpd's group can read, and then gives it its name.
    fn make(segment: Segment, memory: &OwnedFd, known: Origin) -> Result<Self, String> {
        let path = process::runtime_file(FILE).ok_or("there is no DefaultRuntimeDir")?;
        let temporary = path.with_extension(format!("{}.new", known.parent));
        let fill = || {
            let file = create(&temporary)?;
            published::publish(&segment, memory, known, &file)?;
            let identity = identity(&file.metadata()?);
            fs::rename(&temporary, &path)?;
            Ok(identity)
        };
        fill()
            .map_err(|error: io::Error| {
                let _ = fs::remove_file(&temporary);
                format!("'{}': {error}", path.display())
            })
            .map(|identity| Self {
                path: path.clone(),
                identity,
                complained: false,
            })
    }

    /// Writes the file again, if the name still belongs to it.
    fn refresh(&self, segment: Segment, memory: &OwnedFd, known: Origin) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() || identity(&found) != self.identity {
            return Err(io::Error::other("it is another file now"));
        }
        let user = rustix::process::geteuid().as_raw();
        if found.uid() != user || found.mode() & 0o7777 != MODE {
            return Err(io::Error::other("its owner or its mode was changed"));
        }
        published::publish(&segment, memory, known, &file).map(drop)
    }
}

fn create(path: &Path) -> io::Result<File> {
    // A killed server with the same process id may have left it.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    if rustix::process::geteuid().is_root() {
        fchown(&file, None, Some(process::group()))?;
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}
