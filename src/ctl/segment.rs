//! The metrics segment of a running server: where it is, and whether it can be believed.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use wsgi_telemetry::status::{self, Health, Level, Status};
use wsgi_telemetry::{Mismatch, Segment, Snapshot, map};

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

/// Opens the segment at `path`, else the only one that there is; several are told apart by whether their server runs.
pub(crate) fn open(path: Option<&Path>) -> Outcome<Segment> {
    map_file(&find(path)?, Access::Read)
}

/// Opens it to ask the server for something.
pub(crate) fn open_to_ask(path: Option<&Path>) -> Outcome<Segment> {
    map_file(&find(path)?, Access::Write)
}

fn find(path: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = path {
        return Ok(path.to_owned());
    }
    let found = candidates();
    match found.as_slice() {
        [] => Err(Failure::new(format!(
            "no running server found: there is no {FILE} in {}, nor one of wsgictl serve.",
            FOLDERS.join(", ")
        ))
        .remedy(format!(
            "Name the file, which is in httpd's DefaultRuntimeDir: --segment PATH/{FILE}"
        ))),
        [only] => Ok(only.clone()),
        several => {
            let runs = |path: &&PathBuf| {
                let segment = map_file(path, Access::Read).ok();
                segment.is_some_and(|segment| is_running(&segment, &segment.snapshot()))
            };
            let mut running = several.iter().filter(runs);
            match (running.next(), running.next()) {
                (Some(only), None) => Ok(only.clone()),
                _ => {
                    let names = several
                        .iter()
                        .map(|path| format!("  --segment {}", path.display()));
                    Err(Failure::new("there are several servers; say which:")
                        .remedy(names.collect::<Vec<_>>().join("\n")))
                }
            }
        }
    }
}

/// The files that there are, each once: `/var/run` is often another name of `/run`.
fn candidates() -> Vec<PathBuf> {
    let system = FOLDERS.iter().map(PathBuf::from);
    let own = std::fs::read_dir(folder::base()).into_iter().flatten();
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
    found
}

/// Opens and checks one file.
fn map_file(path: &Path, access: Access) -> Outcome<Segment> {
    let shown = path.display();
    // A pipe of that name must not keep anybody waiting.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::new(format!("{shown}: there is no such file.")).remedy(
                "Is the server running, and is mod_wsgi_rs loaded? Its error log \
 names the file at LogLevel info.",
            ),
            ErrorKind::PermissionDenied => denied(path, access),
            // Nobody may open a folder to write to it.
            ErrorKind::IsADirectory => no_file(path),
            _ => Failure::new(format!("cannot open {shown}: {error}")),
        })?;
    let cannot = |error: std::io::Error| Failure::new(format!("cannot read {shown}: {error}"));
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(no_file(path));
    }
    let unfit = |mismatch: Mismatch| {
        let failure = Failure::new(format!("{shown}: {mismatch}."));
        match mismatch {
            Mismatch::OtherLayout => {
                failure.remedy("Use the wsgictl that belongs to the module that httpd has loaded.")
            }
            Mismatch::NoSegment | Mismatch::TooShort => failure,
        }
    };
    let header = header(&file, metadata.len()).map_err(cannot)?;
    let geometry = Segment::claimed_geometry(&header).map_err(unfit)?;
    // No page beyond the end of the file may be touched.
    if metadata.len() < geometry.bytes() as u64 {
        return Err(unfit(Mismatch::TooShort));
    }
    let writable = access == Access::Write;
    let cells = map::file(&file, geometry.words(), writable).map_err(cannot)?;
    Segment::known(cells, geometry).map_err(unfit)
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

fn no_file(path: &Path) -> Failure {
    Failure::new(format!("{}: this is not a file.", path.display()))
}

fn denied(path: &Path, access: Access) -> Failure {
    if access == Access::Write {
        let what = format!("{}: you may not write to it.", path.display());
        return Failure::new(what)
            .remedy("Root and the user who has started the server may: use sudo.");
    }
    let failure = Failure::new(format!("{}: you may not read it.", path.display()));
    // Where the folder may not be entered either, nothing is known of the file.
    let group = path.metadata().ok().map(|metadata| metadata.gid());
    match group.and_then(account::group_name) {
        Some(group) => failure.remedy(format!(
            "Root and the members of the group {group} may: use sudo, or join that group."
        )),
        None => failure.remedy("Root may: use sudo."),
    }
}

/// Whether the process that made the segment is still there.
pub(crate) fn is_running(segment: &Segment, snapshot: &Snapshot) -> bool {
    let pid = segment.parent();
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if test_kill_process(known) == Err(Errno::SRCH) {
        return false;
    }
    // Numbers of processes come again: one that is younger than the segment has not made it.
    let made = snapshot.unix.saturating_sub(snapshot.start) as f64 / 1e9;
    age(pid).is_none_or(|age| age + CLOCKS_DIFFER >= made)
}

/// Says that the server has ended, if it has: then nothing else is wrong with it.
pub(crate) fn note_end(status: &mut Status, segment: &Segment, snapshot: &Snapshot) {
    if is_running(segment, snapshot) {
        return;
    }
    let sampled = status.segment.last_sample_age_seconds;
    let last = sampled.map_or_else(String::new, |age| {
        let at = status::date_and_time(status.timestamp_seconds - age);
        format!(" It was last seen {} ago, at {at}.", status::duration(age))
    });
    let text = format!(
        "The server has ended: its process {} is gone.{last} What follows is the last that it counted.",
        segment.parent()
    );
    status.health = Health::only(Level::Trouble, text);
}

/// That the server has ended, for those who want something of it.
pub(crate) fn check_running(segment: &Segment) -> Outcome<()> {
    if is_running(segment, &segment.snapshot()) {
        return Ok(());
    }
    let pid = segment.parent();
    Err(Failure::new(format!(
        "the server has ended: its process {pid} is gone."
    )))
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
