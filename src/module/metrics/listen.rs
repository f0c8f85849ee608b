//! `WSGIMetricsListen`: the parent opens the socket, and keeps a helper running that answers there.
//!
//! The socket stays open over restarts: connections that arrive between the end of one helper and the start of the next
//! wait in its queue.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, chownat};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use wsgi_core::config::telemetry::MetricsListen;
use wsgi_core::messages::Message;
use wsgi_httpd::helper::{Helper, ParentThread};
use wsgi_httpd::mpm::scoreboard;
use wsgi_httpd::process;
use wsgi_httpd::retained::Retained;

use super::server;
use crate::log::log_message;

/// The process that answers at the socket.
static HELPER: Helper = Helper::new(c"wsgi-metrics", server::run, died);

static STATE: Mutex<ListenState> = Mutex::new(ListenState {
    listen: None,
    socket: None,
});

struct ListenState {
    /// Where the helper answers; `None` if nothing is configured or the socket could not be opened.
    listen: Option<MetricsListen>,
    /// The Unix socket that was made, and the inode number that identifies it.
    socket: Option<(PathBuf, u64)>,
}

fn state() -> MutexGuard<'static, ListenState> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens or closes the socket, as the configuration that has come into force says.
pub(crate) fn prepare(thread: &ParentThread, listen: Option<&MetricsListen>) {
    let retained = Retained::get();
    HELPER.prepare(thread);
    state().listen = None;
    let Some(listen) = listen else {
        close(retained);
        return;
    };
    if rustix::process::geteuid().is_root() && process::user() == 0 {
        log_message(Message::MetricsListen, &[listen, &"httpd's User is root"]);
        close(retained);
        return;
    }
    if !is_open(retained, listen) {
        // The old socket is closed first: the new address may be the same one, written differently.
        close(retained);
        match open(listen) {
            Ok(listener) => retained.keep_descriptor(Some(listener)),
            Err(why) => {
                log_message(Message::MetricsListen, &[listen, &why]);
                return;
            }
        }
    }
    state().listen = Some(listen.clone());
    // At the first start the helper waits for the scoreboard, as it only gets memory that was mapped before the fork.
    if scoreboard::exists() {
        start(thread);
    }
}

/// Starts the helper, if it is wanted and does not run.
pub(crate) fn start(thread: &ParentThread) {
    // The helper gets a copy of the lock, which must be free when the helper is forked.
    let Some(listen) = state().listen.clone() else {
        return;
    };
    if HELPER.is_running() {
        return;
    }
    let started = match Retained::get().descriptor() {
        Ok(None) => return,
        Ok(Some(listener)) => HELPER.start(thread, vec![listener], &[]),
        Err(error) => Err(error),
    };
    if let Err(error) = started {
        log_message(Message::MetricsListen, &[&listen, &error]);
    }
}

/// Replaces a helper that has died, unless it died too soon.
fn died(thread: &ParentThread, pid: u32, how: &str) {
    log_message(Message::MetricsHelper, &[&pid, &how]);
    if HELPER.has_lived() {
        start(thread);
    }
}

/// Replaces a helper that died too soon.
pub(crate) fn revive(thread: &ParentThread) {
    start(thread);
}

/// Returns whether the kept socket is the configured one.
fn is_open(retained: Retained, listen: &MetricsListen) -> bool {
    let Ok(Some(open)) = retained.descriptor() else {
        return false;
    };
    match listen {
        MetricsListen::Tcp(address) => TcpListener::from(open)
            .local_addr()
            .is_ok_and(|open| open == *address),
        MetricsListen::Unix(path) => {
            UnixListener::from(open)
                .local_addr()
                .is_ok_and(|open| open.as_pathname() == Some(path))
                && path.exists()
        }
    }
}

fn open(listen: &MetricsListen) -> Result<OwnedFd, String> {
    let in_use = |error: io::Error| match error.kind() {
        ErrorKind::AddrInUse => String::from("the address is in use"),
        _ => error.to_string(),
    };
    match listen {
        MetricsListen::Tcp(address) => {
            let listener = TcpListener::bind(address).map_err(in_use)?;
            listener.set_nonblocking(true).map_err(in_use)?;
            Ok(listener.into())
        }
        MetricsListen::Unix(path) => {
            make_way(path)?;
            // From the first moment, only httpd's user and group may connect.
            let before = rustix::process::umask(Mode::from_raw_mode(0o117));
            let bound = UnixListener::bind(path);
            rustix::process::umask(before);
            let listener = bound.map_err(in_use)?;
            listener.set_nonblocking(true).map_err(in_use)?;
            let number = give_to_group(path).map_err(|error| error.to_string())?;
            state().socket = Some((path.clone(), number));
            Ok(listener.into())
        }
    }
}

/// Removes the socket of a server that was killed.
fn make_way(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            Err(String::from("there is something that is no socket"))
        }
        Ok(_) if has_listener(path) => Err(String::from("the address is in use")),
        Ok(_) => fs::remove_file(path).map_err(|error| error.to_string()),
    }
}

/// Returns whether a process listens at a Unix socket. Does not wait for one that accepts nothing, as httpd would stand
/// still.
fn has_listener(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let asked = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| net::connect(&socket, &SocketAddrUnix::new(path)?));
    matches!(asked, Ok(()) | Err(Errno::AGAIN))
}

/// Gives the socket that was just made to httpd's group, unless another file has taken its name. Returns its inode
/// number.
fn give_to_group(path: &Path) -> io::Result<u64> {
    let socket = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let socket = fs::File::from(socket);
    let found = socket.metadata()?;
    let user = rustix::process::geteuid();
    if !found.file_type().is_socket() || found.uid() != user.as_raw() {
        return Err(io::Error::other("somebody has replaced the socket"));
    }
    if user.is_root() {
        let group = Gid::from_raw(process::group());
        chownat(&socket, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(found.ino())
}

/// Closes the kept socket.
fn close(retained: Retained) {
    retained.keep_descriptor(None);
    remove_socket();
}

/// Removes the socket's name when httpd ends. Must not log.
pub(crate) fn server_end() {
    remove_socket();
}

/// Removes the Unix socket that was made, if its name still belongs to it.
fn remove_socket() {
    if let Some((path, number)) = state().socket.take()
        && fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == number)
    {
        // If it cannot be removed, the next start removes it.
        let _ = fs::remove_file(path);
    }
}
