//! The metrics segment of a running server: where it is, and whether it can be believed.
//!
//! 1. A file is found by a known name, or by the one that was given. Anybody may have put something there, so it counts only
//!    where root or the caller owns it, and nobody else may write to it or move it. That is asked of the open file.
//! 2. Its header names the server's parent and the descriptor behind which that has the memory. Where the caller may open
//!    that, and it is the owner's, too, and its size is fixed, it is mapped: nothing can be cut off there.
//! 3. Where the caller may not, or the server has ended, the file's copy of the memory is read into memory of `wsgictl`'s
//!    own, each time that somebody looks.
//!
//! Children write to the memory, so what is in it is believed by nobody: neither which process the parent is, nor where
//! anything lies. Nothing that is read there is sent a signal or opened.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use wsgi_telemetry::published::{Location, Memory, Mirror};
use wsgi_telemetry::status::{self, Finding, Health, Level, Status};
use wsgi_telemetry::{Geometry, Mismatch, Segment, clock, memory};

use crate::failure::{Failure, Outcome};
use crate::{account, folder};

/// Its name in httpd's `DefaultRuntimeDir`.
pub(crate) const FILE: &str = "mod_wsgi_rs.segment";

/// The runtime folders of distributions, and of httpd as it comes.
const FOLDERS: [&str; 5] = [
    "/run/apache2",
    "/var/run/apache2",
    "/run/httpd",
    "/var/run/httpd",
    "/usr/local/apache2/logs",
];

/// Seconds by which a process may seem younger than what it made, because the calendar's clock was set.
const CLOCKS_DIFFER: f64 = 10.0;

/// What somebody wants to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    /// To ask the server for something, too.
    Write,
}

/// A server, by its segment.
pub(crate) struct Server {
    path: PathBuf,
    place: Location,
    content: Content,
}

enum Content {
    /// The memory itself.
    Live(Segment),
    /// The file's copy of it.
    Copy(Mirror),
}

/// Opens the segment at `path`, else the only one that there is; several are told apart by whether their server runs.
pub(crate) fn open(path: Option<&Path>) -> Outcome<Server> {
    match path {
        Some(path) => Server::open(path, Access::Read),
        None => find(),
    }
}

/// Opens it to ask the server for something.
pub(crate) fn open_to_ask(path: Option<&Path>) -> Outcome<(Server, Segment)> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => find()?.path,
    };
    let server = Server::open(&path, Access::Write)?;
    server.check_running()?;
    match server.content {
        Content::Live(segment) => Ok((server, segment)),
        Content::Copy(_) => Err(Failure::new(format!(
            "{}: the server's memory is not where the file says, or is another user's.",
            path.display()
        ))
        .remedy("A graceful restart makes the file anew: apachectl graceful")),
    }
}

fn find() -> Outcome<Server> {
    let mut refused = None;
    let mut found = Vec::new();
    let (candidates, unfit) = candidates();
    for path in candidates {
        match Server::open(&path, Access::Read) {
            Ok(server) => found.push(server),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    if found.len() > 1 {
        // Of several, those that run; where that is not one, all of them are named.
        let (running, others): (Vec<Server>, Vec<Server>) =
            found.into_iter().partition(Server::is_running);
        if running.len() != 1 {
            let names = running.iter().chain(&others);
            let names = names.map(|server| format!("  --segment {}", server.path.display()));
            return Err(Failure::new("there are several servers; say which:")
                .remedy(names.collect::<Vec<_>>().join("\n")));
        }
        found = running;
    }
    found.pop().ok_or_else(|| {
        refused.or(unfit).unwrap_or_else(|| {
            Failure::new(format!(
                "no running server found: there is no {FILE} in {}, nor one of wsgictl serve.",
                FOLDERS.join(", ")
            ))
            .remedy(format!(
                "Name the file, which is in httpd's DefaultRuntimeDir: --segment PATH/{FILE}"
            ))
        })
    })
}

/// The files that there are, each once: `/var/run` is often another name of `/run`. What is wrong with the folder of
/// `wsgictl serve`, if it is another user's.
fn candidates() -> (Vec<PathBuf>, Option<Failure>) {
    let system = FOLDERS.iter().map(PathBuf::from);
    let base = folder::base();
    let unfit = folder::check_own(&base).err();
    let own = match unfit {
        None => std::fs::read_dir(base).ok(),
        Some(_) => None,
    };
    let own = own.into_iter().flatten();
    let own = own.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in system.chain(own).map(|folder| folder.join(FILE)) {
        let path = match path.canonicalize() {
            Ok(path) => path,
            // Somebody else's; to read it gives the reason.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => path,
            Err(_) => continue,
        };
        if !found.contains(&path) {
            found.push(path);
        }
    }
    (found, unfit)
}

impl Server {
    /// Opens and checks one file, and what it names.
    fn open(path: &Path, access: Access) -> Outcome<Self> {
        let shown = path.display();
        let cannot = |error: io::Error| Failure::new(format!("cannot read {shown}: {error}"));
        let (file, metadata) = open_file(path)?;
        let unfit = |mismatch: Mismatch| {
            let failure = Failure::new(format!("{shown}: {mismatch}."));
            match mismatch {
                Mismatch::OtherLayout => failure
                    .remedy("Use the wsgictl that belongs to the module that httpd has loaded."),
                Mismatch::NoSegment | Mismatch::TooShort | Mismatch::NoMemory => failure.remedy(
                    "Where its server runs, a graceful restart makes the file anew: apachectl graceful",
                ),
            }
        };
        let header = header(&file, metadata.len()).map_err(cannot)?;
        let geometry = Segment::claimed_geometry(&header).map_err(unfit)?;
        let place = Location::of(&header).map_err(unfit)?;
        if metadata.len() < geometry.bytes() as u64 {
            return Err(unfit(Mismatch::TooShort));
        }
        let live = match place.memory {
            Some(memory) => map_memory(&place, memory, geometry, metadata.uid(), access),
            None => Err(ErrorKind::NotFound.into()),
        };
        let content = match live {
            Ok(segment) => Content::Live(segment),
            Err(error)
                if access == Access::Write && error.kind() == ErrorKind::PermissionDenied =>
            {
                return Err(denied(path, access, Some(&metadata)));
            }
            Err(_) => Content::Copy(Mirror::new(file, geometry).map_err(cannot)?),
        };
        let server = Self {
            path: path.to_owned(),
            place,
            content,
        };
        if matches!(server.content, Content::Copy(_)) && place.memory.is_some() && place.copied == 0
        {
            return Err(if server.is_running() {
                Failure::new(format!(
                    "{shown}: the server's memory is too large to be copied into the file, and you may not look at it."
                ))
                .remedy("Root and the user who has started the server may: use sudo.")
            } else {
                server.has_ended()
            });
        }
        Ok(server)
    }

    /// Everything as it is now.
    pub(crate) fn look(&self) -> Outcome<Segment> {
        let mirror = match &self.content {
            Content::Live(segment) => return Ok(*segment),
            Content::Copy(mirror) => mirror,
        };
        let shown = self.path.display();
        mirror.look().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Failure::new(format!(
                "{shown}: the segment's file was cut."
            ))
            .remedy(
                "Where its server runs, a graceful restart makes the file anew: apachectl graceful",
            ),
            ErrorKind::FileTooLarge => Failure::new(format!(
                "{shown}: there is more in it than any server writes."
            )),
            _ => Failure::new(format!("cannot read {shown}: {error}")),
        })
    }

    /// Process that has made it.
    pub(crate) fn parent(&self) -> u32 {
        self.place.parent
    }

    /// Whether that is still there.
    pub(crate) fn is_running(&self) -> bool {
        let pid = self.place.parent;
        let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        if test_kill_process(known) == Err(Errno::SRCH) {
            return false;
        }
        // Numbers of processes come again: one that is younger than the segment has not made it.
        let made = clock::unix().saturating_sub(self.place.start) as f64 / 1e9;
        age(pid).is_none_or(|age| age + CLOCKS_DIFFER >= made)
    }

    /// Says that the server has ended, if it has: then nothing else is wrong with it. Else that its numbers are old, where
    /// they are.
    pub(crate) fn note_end(&self, status: &mut Status) {
        if !self.is_running() {
            let sampled = status.segment.last_sample_age_seconds;
            let last = sampled.map_or_else(String::new, |age| {
                let at = status::date_and_time(status.timestamp_seconds - age);
                format!(" It was last seen {} ago, at {at}.", status::duration(age))
            });
            let text = format!(
                "The server has ended: its process {} is gone.{last} What follows is the last that it counted.",
                self.place.parent
            );
            status.health = Health::only(Level::Trouble, text);
        } else if let (Content::Copy(_), Some(_)) = (&self.content, self.place.memory) {
            let text = String::from(
                "What follows may be some ten seconds old: you may read the server's file, and not its memory.",
            );
            let level = Level::Notice;
            status.health.level = status.health.level.max(level);
            status.health.findings.push(Finding { level, text });
        }
    }

    /// Fails where the server has ended, for commands that ask it for something.
    pub(crate) fn check_running(&self) -> Outcome<()> {
        if self.is_running() {
            Ok(())
        } else {
            Err(self.has_ended())
        }
    }

    fn has_ended(&self) -> Failure {
        let pid = self.place.parent;
        Failure::new(format!("the server has ended: its process {pid} is gone."))
    }
}

/// Opens a file that its owner alone can have written: root, or the caller.
fn open_file(path: &Path) -> Outcome<(File, Metadata)> {
    let shown = path.display();
    let failed = |error: io::Error, found: Option<&Metadata>| match error.kind() {
        ErrorKind::NotFound => Failure::new(format!("{shown}: there is no such file.")).remedy(
            "Is the server running, and is mod_wsgi_rs loaded? Its error log \
 names the file at LogLevel info.",
        ),
        ErrorKind::PermissionDenied => denied(path, Access::Read, found),
        _ => Failure::new(format!("cannot open {shown}: {error}")),
    };
    let named = find_file(path).map_err(|error| failed(error, None))?;
    let metadata = named.metadata().map_err(|error| failed(error, None))?;
    if !metadata.is_file() {
        return Err(Failure::new(format!("{shown}: this is not a file.")));
    }
    check_owner(path, &metadata)?;
    check_folders(path)?;
    // Only now opened in earnest: a device may do something when it is.
    let file = reopen(&named, Access::Read).map_err(|error| failed(error, Some(&metadata)))?;
    Ok((file, metadata))
}

/// The file of that name as it is, without opening it in earnest.
fn find_file(path: impl AsRef<Path>) -> io::Result<File> {
    let flags = OFlags::PATH.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Opens what [`find_file`] has found.
fn reopen(found: &File, access: Access) -> io::Result<File> {
    // A pipe must not keep anybody waiting.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    File::options()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags)
        .open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Bits of a mode by which others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// Bits of a folder's mode by which everybody may write, and then only to what is their own.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

fn check_owner(path: &Path, metadata: &Metadata) -> Outcome<()> {
    let (shown, owner) = (path.display(), metadata.uid());
    if !is_trusted(owner) {
        return Err(Failure::new(format!(
            "{shown} belongs to another user (uid {owner}), who may have written anything there."
        ))
        .remedy(format!(
            "Where it is the file of a server of that user, look as that user: sudo -u '#{owner}' wsgictl ..."
        )));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(Failure::new(format!(
            "{shown}: others than its owner may write to it (mode {mode:04o}), so that it may say anything."
        ))
        .remedy("No server makes it so. Remove it; a graceful restart makes the file anew: apachectl graceful"));
    }
    Ok(())
}

/// Nobody else can put another file in the place of this one.
fn check_folders(path: &Path) -> Outcome<()> {
    let whole = path.canonicalize();
    let whole =
        whole.map_err(|error| Failure::new(format!("cannot open {}: {error}", path.display())))?;
    for folder in whole.ancestors().skip(1) {
        // One that may not be looked at may not be written to by anybody who matters here.
        let Ok(metadata) = folder.metadata() else {
            continue;
        };
        let mode = metadata.mode() & 0o7777;
        if mode & EVERYBODY_WRITES != 0 && mode & STICKY == 0 {
            let (shown, folder) = (path.display(), folder.display());
            return Err(Failure::new(format!(
                "{shown}: everybody may write to the folder {folder} (mode {mode:04o}), so that this may be anybody's file."
            ))
            .remedy(format!("Take that right away: chmod o-w {folder}")));
        }
    }
    Ok(())
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Maps the memory behind the parent's descriptor, where it is what the file says, of the file's owner.
fn map_memory(
    place: &Location,
    memory: Memory,
    geometry: Geometry,
    owner: u32,
    access: Access,
) -> io::Result<Segment> {
    let behind = format!("/proc/{}/fd/{}", place.parent, memory.descriptor);
    let found = find_file(behind)?;
    let metadata = found.metadata()?;
    let is_it = metadata.is_file()
        && metadata.ino() == memory.inode
        && metadata.uid() == owner
        && metadata.mode() & OTHERS_WRITE == 0
        && metadata.len() >= geometry.bytes() as u64;
    // Another process may have got the number since.
    if !is_it {
        return Err(ErrorKind::NotFound.into());
    }
    let file = reopen(&found, access)?;
    if !memory::is_sealed(&file) {
        return Err(ErrorKind::NotFound.into());
    }
    let cells = memory::file(&file, geometry.words(), access == Access::Write)?;
    Segment::known(cells, geometry).map_err(io::Error::other)
}

/// The first words, as many as there are.
fn header(file: &File, length: u64) -> std::io::Result<Vec<u64>> {
    let wanted = Segment::HEADER_WORDS * 8;
    let there = usize::try_from(length).unwrap_or(wanted).min(wanted);
    let mut bytes = vec![0; there];
    file.read_exact_at(&mut bytes, 0)?;
    let words = bytes.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    Ok(words.collect())
}

fn denied(path: &Path, access: Access, found: Option<&Metadata>) -> Failure {
    if access == Access::Write {
        let what = format!("{}: you may not write to it.", path.display());
        return Failure::new(what)
            .remedy("Root and the user who has started the server may: use sudo.");
    }
    let failure = Failure::new(format!("{}: you may not read it.", path.display()));
    // Where the folder may not be entered either, nothing is known of the file.
    let group = found.map(MetadataExt::gid);
    match group.and_then(account::group_name) {
        Some(group) => failure.remedy(format!(
            "Root and the members of the group {group} may: use sudo, or join that group."
        )),
        None => failure.remedy("Root may: use sudo."),
    }
}

/// Seconds since a process started: field 22 of its `stat`, counted from the start of the machine (proc(5)).
fn age(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let started: f64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    Some(uptime - started / rustix::param::clock_ticks_per_second() as f64)
}
