//! The memory of the segment, and the file by which `wsgictl` finds it.
//!
//! The memory has no name, and its size is sealed: truncating a file cannot end a process of the server by `SIGBUS`.
//! The parent holds its descriptor. The file `mod_wsgi_rs.segment` in `DefaultRuntimeDir` names that descriptor, and
//! also has a copy of the memory (see [`wsgi_telemetry::published`]). The segment of a process group has a file of its
//! own, `mod_wsgi_rs.segment.GROUP`.
//!
//! The file is refreshed about every ten seconds. A restart makes it anew if it is gone or is another file. Its
//! descriptor is not kept open: children could write with it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
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

/// The name of the server's file in `DefaultRuntimeDir`, and of the memory.
const FILE: &str = "mod_wsgi_rs.segment";

/// The mode of the file: httpd's group may read it.
const MODE: u32 = 0o640;

/// The files that this copy of the module has made: the server's, and one for each process group.
static SHOWN: Mutex<Vec<Shown>> = Mutex::new(Vec::new());

struct Shown {
    /// The process group; `None` for the server itself.
    group: Option<String>,
    path: PathBuf,
    /// The device and inode number that identify the file.
    identity: (u64, u64),
    /// Whether it was logged that the file cannot be written.
    complained: bool,
}

fn shown() -> MutexGuard<'static, Vec<Shown>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment that is shown, and the descriptor of its memory.
pub(crate) struct Source {
    segment: Segment,
    memory: OwnedFd,
    origin: Origin,
}

impl Source {
    /// Returns the server's segment, which was made at the Unix time `start`, nanoseconds; `None` if its memory has no
    /// descriptor.
    pub(crate) fn of_server(retained: Retained, segment: Segment, start: u64) -> Option<Self> {
        let (descriptor, memory) = retained.memory()?;
        Some(Self::new(segment, memory, descriptor, start))
    }

    /// Returns the segment of a process group.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub(crate) fn of_group(segment: Segment, memory: &OwnedFd, start: u64) -> io::Result<Self> {
        let descriptor = memory.as_raw_fd().cast_unsigned();
        Ok(Self::new(segment, memory.try_clone()?, descriptor, start))
    }

    fn new(segment: Segment, memory: OwnedFd, descriptor: u32, start: u64) -> Self {
        let origin = Origin {
            parent: std::process::id(),
            start,
            descriptor,
        };
        Self {
            segment,
            memory,
            origin,
        }
    }
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

/// Makes or refreshes the file of a segment when a configuration has come into force.
pub(crate) fn show(group: Option<&str>, source: &Source) {
    let mut all = shown();
    let known = all.iter().position(|shown| shown.group.as_deref() == group);
    if let Some(known) = known {
        let what = match all[known].refresh(source) {
            Ok(()) => return,
            Err(error) => format!("'{}' is made anew: {error}", all[known].path.display()),
        };
        log_info(&what);
        all.remove(known);
    }
    match Shown::make(group, source) {
        Ok(made) => {
            log_info(&format!(
                "wsgictl finds the segment by '{}'",
                made.path.display()
            ));
            all.push(made);
        }
        Err(why) => log_message(Message::SegmentHidden, &[&why]),
    }
}

/// Copies the memory into the file again, every few seconds.
pub(crate) fn refresh(group: Option<&str>, source: &Source) {
    let mut all = shown();
    let Some(shown) = all.iter_mut().find(|shown| shown.group.as_deref() == group) else {
        return;
    };
    match shown.refresh(source) {
        Ok(()) => shown.complained = false,
        Err(_) if shown.complained => {}
        Err(error) => {
            shown.complained = true;
            let path = shown.path.display().to_string();
            log_message(Message::SegmentFile, &[&path, &error]);
        }
    }
}

/// Removes the files of process groups that the configuration in force does not have.
pub(crate) fn keep_groups(has: impl Fn(&str) -> bool) {
    shown().retain(|shown| {
        let stays = shown.group.as_deref().is_none_or(&has);
        if !stays {
            shown.remove();
        }
        stays
    });
}

/// Removes the files' names when httpd ends. Must not log.
pub(crate) fn remove() {
    shown().drain(..).for_each(|shown| shown.remove());
}

/// Returns the name of the file for a process group. Characters that a name of a file cannot have are written as in a
/// URL.
fn file_of(group: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let mut file = format!("{FILE}.");
    for byte in group.bytes() {
        match plain(byte) {
            true => file.push(byte.into()),
            false => file.push_str(&format!("%{byte:02X}")),
        }
    }
    file
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

impl Shown {
    /// Makes a new file that httpd's group can read, and then gives it its name.
    fn make(group: Option<&str>, source: &Source) -> Result<Self, String> {
        let file = group.map_or_else(|| FILE.into(), file_of);
        let path = process::runtime_file(&file).ok_or("there is no DefaultRuntimeDir")?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(format!(".{}.new", source.origin.parent));
        let temporary = PathBuf::from(temporary);
        let fill = || {
            let file = create(&temporary)?;
            published::publish(&source.segment, &source.memory, source.origin, &file)?;
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
                group: group.map(str::to_owned),
                path: path.clone(),
                identity,
                complained: false,
            })
    }

    /// Writes the file again, if the name still belongs to it.
    fn refresh(&self, source: &Source) -> io::Result<()> {
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
        published::publish(&source.segment, &source.memory, source.origin, &file).map(drop)
    }

    /// Removes the file, if its name still belongs to it.
    fn remove(&self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| identity(&found) == self.identity) {
            // The log may be closed, and a stale file does no harm.
            let _ = fs::remove_file(&self.path);
        }
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
