//! A server seen through its segment: its memory or the file's copy of it, and whether the server still runs.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use procfs::process::Process;
use procfs::{Current, Uptime, ticks_per_second};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use wsgi_telemetry::published::{Location, Memory, Mirror};
use wsgi_telemetry::status::{self, Finding, Health, Level, Status};
use wsgi_telemetry::{Geometry, GroupSegment, Mismatch, Segment, Snapshot, clock, memory};

use crate::output::failure::{Failure, Outcome};
use crate::segment::trust::{Access, OTHERS_WRITE, denied, find_file, open_file, reopen};

/// Seconds by which a process may seem younger than its segment, because the calendar clock was set.
const CLOCKS_DIFFER: f64 = 10.0;

/// A server, seen through its segment.
pub(crate) struct Server {
    path: PathBuf,
    place: Location,
    content: Content,
    /// The segments of its process groups, by name.
    groups: Vec<(String, Server)>,
}

enum Content {
    /// The memory itself.
    Live(Segment),
    /// The file's copy of the memory.
    Copy(Mirror),
}

impl Server {
    /// Opens and checks the file of a server, and those of its process groups.
    pub(super) fn open(path: &Path, access: Access) -> Outcome<Self> {
        let mut server = Self::open_one(path, access)?;
        for (name, file) in group_files(path) {
            // One that cannot be read, or that another server has left, does not belong to this server.
            let of_group = Self::open_one(&file, Access::Read);
            let is_own = |group: &Self| group.place.parent == server.place.parent;
            server
                .groups
                .extend(of_group.ok().filter(is_own).map(|group| (name, group)));
        }
        Ok(server)
    }

    /// Opens and checks a file, and the memory that it names.
    fn open_one(path: &Path, access: Access) -> Outcome<Self> {
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
            groups: Vec::new(),
        };
        if matches!(server.content, Content::Copy(_)) && place.memory.is_some() && place.copied == 0
        {
            return Err(if server.is_running() {
                Failure::new(format!(
                    "{shown}: the server's memory is too large to be copied into this file, and you may not read the memory itself."
                ))
                .remedy("Root and the user who started the server may: use sudo.")
            } else {
                server.has_ended()
            });
        }
        Ok(server)
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the memory itself, if it is mapped.
    pub(super) fn memory(&self) -> Option<Segment> {
        match self.content {
            Content::Live(segment) => Some(segment),
            Content::Copy(_) => None,
        }
    }

    /// Returns the segment in its current state.
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
            ErrorKind::FileTooLarge => {
                Failure::new(format!("{shown}: it is larger than any server's."))
            }
            _ => Failure::new(format!("cannot read {shown}: {error}")),
        })
    }

    /// Returns the numbers of the server, from what [`Self::look`] has returned, with those of its process groups.
    pub(crate) fn snapshot(&self, server: Segment) -> Outcome<Snapshot> {
        let groups = self.groups.iter().map(|(name, group)| {
            let segment = group.look()?;
            let name = name.clone();
            Ok(GroupSegment { name, segment })
        });
        let groups: Vec<GroupSegment> = groups.collect::<Outcome<_>>()?;
        Ok(server.snapshot_with(&groups))
    }

    /// Returns the names of its process groups.
    pub(crate) fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// Opens the segment of one of its process groups to send it a request.
    pub(crate) fn group_to_ask(&self, name: &str) -> Outcome<Server> {
        let mut groups = self.groups.iter();
        if let Some((_, group)) = groups.find(|(known, _)| known == name) {
            return Self::open_one(group.path(), Access::Write);
        }
        let what = Failure::new(format!("the server has no process group '{name}'."));
        let names: Vec<&str> = self.group_names().collect();
        Err(what.remedy(match names.is_empty() {
            true => String::from("It has no process group at all."),
            false => format!("It has: {}.", names.join(", ")),
        }))
    }

    /// Returns the process that made the segment: the server's parent.
    pub(crate) fn parent(&self) -> u32 {
        self.place.parent
    }

    /// Returns whether the server's parent still runs.
    pub(super) fn is_running(&self) -> bool {
        let pid = self.place.parent;
        let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        if test_kill_process(known) == Err(Errno::SRCH) {
            return false;
        }
        // Process ids are reused: a process that is younger than the segment did not make it.
        let made = clock::unix().saturating_sub(self.place.start) as f64 / 1e9;
        age(pid).is_none_or(|age| age + CLOCKS_DIFFER >= made)
    }

    /// Records in `status` that the server has ended, in place of all findings; or that the numbers come from the
    /// file's copy.
    pub(crate) fn note_end(&self, status: &mut Status) {
        if !self.is_running() {
            let sampled = status.segment.last_sample_age_seconds;
            let last = sampled.map_or_else(String::new, |age| {
                let at = status::date_and_time(status.timestamp_seconds - age);
                format!(" It was last seen {} ago, at {at}.", status::duration(age))
            });
            let text = format!(
                "The server has ended: its process {} is gone.{last} The numbers below are its last ones.",
                self.place.parent
            );
            status.health = Health::only(Level::Trouble, text);
        } else if let (Content::Copy(_), Some(_)) = (&self.content, self.place.memory) {
            let text = String::from(
                "The numbers below may be ten seconds old: you may read the server's file, but not its memory.",
            );
            let level = Level::Notice;
            status.health.level = status.health.level.max(level);
            status.health.findings.push(Finding { level, text });
        }
    }

    /// Fails if the server has ended. For commands that send it a request.
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

/// Returns the files of process groups beside the file of a server, with the groups' names.
fn group_files(path: &Path) -> Vec<(String, PathBuf)> {
    let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let prefix = [file.as_bytes(), b"."].concat();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_groups = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.as_bytes().strip_prefix(&prefix[..])?;
        // A point is part of no group's file, but of one that is being written.
        let is_whole = !name.contains(&b'.');
        is_whole.then(|| (decoded(name), entry.path()))
    });
    let mut of_groups: Vec<_> = of_groups.collect();
    of_groups.sort();
    of_groups
}

/// Returns a name whose special characters were written as in a URL.
fn decoded(name: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| byte == b'%');
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Maps the memory behind the parent's descriptor, if it is the file that the header names and has the same owner.
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
    // The parent's process id may have been reused by another process.
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

/// Returns the header, or as much of it as the file has.
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

/// Returns the seconds since a process started.
fn age(pid: u32) -> Option<f64> {
    let process = Process::new(pid.try_into().ok()?).ok()?;
    let started = process.stat().ok()?.starttime as f64 / ticks_per_second() as f64;
    Some(Uptime::current().ok()?.uptime - started)
}
