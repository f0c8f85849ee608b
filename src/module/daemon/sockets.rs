//! The listening sockets of process groups: one for each slot, opened by the parent and kept over restarts, so that a
//! child of an earlier configuration still finds its processes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, Uid, chownat};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_httpd::process;

use super::accounts;
use crate::log::log_message;

/// Where a slot listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) path: PathBuf,
}

/// A listening socket that the parent keeps.
struct Kept {
    /// The name of the group, the number of the slot, and the user who may connect.
    key: (String, u32, u32),
    address: Address,
    inode: u64,
    listener: OwnedFd,
    /// Whether the configuration in force uses it, and whether the one before did.
    is_used: bool,
    was_used: bool,
}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to open the sockets of a new configuration.
pub(super) fn begin() {
    for kept in kept().iter_mut() {
        kept.was_used = std::mem::replace(&mut kept.is_used, false);
    }
}

/// Closes the sockets that neither this configuration nor the one before uses.
pub(super) fn close_unused() {
    let mut kept = kept();
    let mut at = 0;
    while at < kept.len() {
        if kept[at].is_used || kept[at].was_used {
            at += 1;
        } else {
            remove(&kept.swap_remove(at));
        }
    }
}

/// Opens the sockets of a group, or finds those that are open. Returns `None` if that fails; the log says why.
pub(super) fn open(group: &ProcessGroup, prefix: Option<&str>) -> Option<Vec<Address>> {
    let user = match user_of(group) {
        Ok(user) => user,
        Err(problem) => {
            log_message(Message::GroupSocket, &[&group.name, &problem]);
            return None;
        }
    };
    (0..group.processes())
        .map(|slot| open_one(group, slot, user, prefix))
        .collect()
}

fn open_one(group: &ProcessGroup, slot: u32, user: u32, prefix: Option<&str>) -> Option<Address> {
    let key = (group.name.clone(), slot, user);
    let mut kept = kept();
    if let Some(known) = kept
        .iter_mut()
        .find(|known| known.key == key && known.address.path.exists())
    {
        known.is_used = true;
        // The configuration may name another length of the queue than the one before.
        if let Err(errno) = listen(&known.listener, backlog_of(group)) {
            let problem = format!("listen-backlog={}: {errno}", group.listen_backlog);
            log_message(Message::GroupSocket, &[&group.name, &problem]);
            return None;
        }
        return Some(known.address.clone());
    }
    let path = path_of(prefix);
    match listen_at(&path, user, backlog_of(group)) {
        Ok((listener, inode)) => {
            let address = Address { path };
            kept.push(Kept {
                key,
                address: address.clone(),
                inode,
                listener,
                is_used: true,
                was_used: false,
            });
            Some(address)
        }
        Err(error) => {
            let problem = format!("{}: {error}", path.display());
            log_message(Message::GroupSocket, &[&group.name, &problem]);
            None
        }
    }
}

/// Returns how many connections to a socket of the group may wait to be accepted.
fn backlog_of(group: &ProcessGroup) -> i32 {
    group.listen_backlog.try_into().unwrap_or(i32::MAX)
}

/// Sets the sizes of the kernel's buffers for one end of a connection to a process of the group. The kernel limits them
/// (`net.core.wmem_max`, `rmem_max`).
pub(super) fn set_buffers(group: &ProcessGroup, socket: &OwnedFd) -> io::Result<()> {
    if let Some(size) = group.send_buffer_size {
        set_socket_send_buffer_size(socket, size)?;
    }
    if let Some(size) = group.receive_buffer_size {
        set_socket_recv_buffer_size(socket, size)?;
    }
    Ok(())
}

/// Returns the number of the user who may connect.
fn user_of(group: &ProcessGroup) -> Result<u32, String> {
    match &group.socket_user {
        None => Ok(process::user()),
        Some(written) => Ok(accounts::user("socket-user", written)?.uid.as_raw()),
    }
}

/// Returns a path that no other socket of this server has.
fn path_of(prefix: Option<&str>) -> PathBuf {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    *next += 1;
    let prefix = match prefix {
        Some(prefix) => process::server_file(prefix).unwrap_or_else(|| prefix.into()),
        None => process::runtime_file("wsgi").unwrap_or_else(|| "wsgi".into()),
    };
    let mut path = prefix.into_os_string();
    path.push(format!(".{}.{next}.sock", std::process::id()));
    path.into()
}

/// Makes a socket to which only `user` may connect. Returns it and the number of its inode.
fn listen_at(path: &Path, user: u32, backlog: i32) -> io::Result<(OwnedFd, u64)> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // It has the number of this process, so it is left over from a server that was killed.
        fs::remove_file(path)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // From the first moment, only the owner may connect.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = SocketAddrUnix::new(path).and_then(|address| bind(&listener, &address));
    rustix::process::umask(before);
    bound?;
    listen(&listener, backlog)?;
    if rustix::process::geteuid().is_root() {
        let owner = Some(Uid::from_raw(user));
        chownat(
            rustix::fs::CWD,
            path,
            owner,
            None,
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok((listener, fs::symlink_metadata(path)?.ino()))
}

/// Returns duplicates of the sockets at these addresses, in order.
pub(super) fn listeners<'a>(
    addresses: impl IntoIterator<Item = &'a Address>,
) -> io::Result<Vec<OwnedFd>> {
    let kept = kept();
    let of_address = |address: &Address| {
        let known = kept.iter().find(|known| known.address == *address);
        let known = known.ok_or_else(|| io::Error::other("the socket is closed"))?;
        known.listener.as_fd().try_clone_to_owned()
    };
    addresses.into_iter().map(of_address).collect()
}

/// Closes this process's copies of the sockets. For a child, which only connects.
pub(crate) fn child_begins() {
    kept().clear();
}

/// Forgets the sockets. For a process that has closed all its descriptors by number.
pub(super) fn forget() {
    std::mem::forget(std::mem::take(&mut *kept()));
}

/// Removes the sockets when httpd ends. Must not log.
pub(crate) fn server_end() {
    kept().drain(..).for_each(|kept| remove(&kept));
}

/// Removes the name of a socket, if it still belongs to the socket.
fn remove(kept: &Kept) {
    let path = &kept.address.path;
    if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == kept.inode) {
        // If it cannot be removed, nothing uses it.
        let _ = fs::remove_file(path);
    }
}
