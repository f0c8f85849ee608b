//! Decides which files are trusted: those that only root or the caller can have written.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::output::failure::{Failure, Outcome};
use crate::system::account;

/// The access that a command needs to a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Reading, and sending requests to the server.
    Write,
}

/// Opens a file that only root or the caller can have written.
pub(super) fn open_file(path: &Path) -> Outcome<(File, Metadata)> {
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
    // Opened for reading only after the check: opening a device may have an effect.
    let file = reopen(&named, Access::Read).map_err(|error| failed(error, Some(&metadata)))?;
    Ok((file, metadata))
}

/// Opens the file of that name with a descriptor that gives only its metadata.
pub(super) fn find_file(path: impl AsRef<Path>) -> io::Result<File> {
    let flags = OFlags::PATH.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Reopens a file from [`find_file`], for reading or writing.
pub(super) fn reopen(found: &File, access: Access) -> io::Result<File> {
    // Opening a pipe must not wait for its other end.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    File::options()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(flags)
        .open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Bits of a mode that let users other than the owner write.
pub(super) const OTHERS_WRITE: u32 = 0o022;
/// Bit of a folder's mode that lets every user write; with `STICKY`, only to their own files.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

fn check_owner(path: &Path, metadata: &Metadata) -> Outcome<()> {
    let (shown, owner) = (path.display(), metadata.uid());
    if !is_trusted(owner) {
        return Err(Failure::new(format!(
            "{shown} belongs to another user (uid {owner}), so its content cannot be trusted."
        ))
        .remedy(format!(
            "If it belongs to a server of that user, run wsgictl as that user: sudo -u '#{owner}' wsgictl ..."
        )));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(Failure::new(format!(
            "{shown}: users other than its owner may write to it (mode {mode:04o}), so its content cannot be trusted."
        ))
        .remedy("No server makes it so. Remove it; a graceful restart makes the file anew: apachectl graceful"));
    }
    Ok(())
}

/// Fails if other users could replace this file with another one.
fn check_folders(path: &Path) -> Outcome<()> {
    let whole = path.canonicalize();
    let whole =
        whole.map_err(|error| Failure::new(format!("cannot open {}: {error}", path.display())))?;
    for folder in whole.ancestors().skip(1) {
        // The caller cannot inspect this folder: then other users cannot write to it either, unless root let them.
        let Ok(metadata) = folder.metadata() else {
            continue;
        };
        let mode = metadata.mode() & 0o7777;
        if mode & EVERYBODY_WRITES != 0 && mode & STICKY == 0 {
            let (shown, folder) = (path.display(), folder.display());
            return Err(Failure::new(format!(
                "{shown}: every user may write to the folder {folder} (mode {mode:04o}), so this may be any user's file."
            ))
            .remedy(format!("Close the folder: chmod o-w {folder}")));
        }
    }
    Ok(())
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

pub(super) fn denied(path: &Path, access: Access, found: Option<&Metadata>) -> Failure {
    if access == Access::Write {
        let what = format!("{}: you may not write to it.", path.display());
        return Failure::new(what)
            .remedy("Root and the user who started the server may: use sudo.");
    }
    let failure = Failure::new(format!("{}: you may not read it.", path.display()));
    // Unknown if the caller may not enter the folder.
    let group = found.map(MetadataExt::gid);
    match group.and_then(account::group_name) {
        Some(group) => failure.remedy(format!(
            "Root and the members of the group {group} may: use sudo, or join that group."
        )),
        None => failure.remedy("Root may: use sudo."),
    }
}
