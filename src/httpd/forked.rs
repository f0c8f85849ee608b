//! Processes that an application forks from a child of httpd, and what they must not keep of httpd.
//!
//! Such a process, a *copy*, has a copy of one thread. Some copies live long (`multiprocessing`, daemons), so a copy
//! closes the listening sockets, the connections of clients and the pipe by which the parent speaks to its children. It
//! also restores the default action of signals that httpd handles, and unblocks those that httpd blocks. All of this
//! happens in a handler of `pthread_atfork`, which may do what a signal handler may: it reads what was noted before,
//! and makes system calls. [S-13]
//!
//! `vfork` and `posix_spawn` run no such handlers. They start another program at once, in which `FD_CLOEXEC` closes the
//! listening sockets.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::guard::guard_or;
use crate::{mpm, sys};

/// A file of httpd that was open before any application ran.
struct Inherited {
    descriptor: c_int,
    device: libc::dev_t,
    inode: libc::ino_t,
}

/// What the handler needs, noted before any code of an application runs.
struct Noted {
    /// Listening sockets, and the read ends of pipes.
    inherited: Vec<Inherited>,
    /// Ports of the listening sockets. A stream socket with such a local port is a connection of a client.
    ports: Vec<u16>,
    /// Addresses of the code of httpd, its modules and their libraries. Python is not loaded yet.
    code: Vec<Range<usize>>,
    /// Whether httpd blocks signals in the threads that serve requests.
    blocks_signals: bool,
}

static NOTED: OnceLock<Noted> = OnceLock::new();
/// The address of the Unix socket whose connections this process serves.
static SERVED: OnceLock<Option<UnixAddress>> = OnceLock::new();
static WATCHED: OnceLock<fn()> = OnceLock::new();
static IS_COPY: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// `on_exit(3)` of the C library: like `atexit`, but the function also gets the status.
    fn on_exit(
        function: unsafe extern "C" fn(status: c_int, data: *mut c_void),
        data: *mut c_void,
    ) -> c_int;
}

/// Notes what is open in this child, before any application runs, and sets `FD_CLOEXEC` on the listening sockets. Only
/// the first call counts: httpd run with `-X` starts its child again in the same process.
pub(crate) fn note() {
    NOTED.get_or_init(|| {
        let mut noted = Noted {
            inherited: Vec::new(),
            ports: Vec::new(),
            code: code(),
            blocks_signals: mpm::query(sys::AP_MPMQ_IS_THREADED).is_some_and(|is| is != 0),
        };
        each_descriptor(|descriptor| noted.look_at(descriptor));
        noted
    });
}

impl Noted {
    fn look_at(&mut self, descriptor: c_int) {
        if descriptor <= 2 {
            return;
        }
        let Some(found) = identity(descriptor) else {
            return;
        };
        // SAFETY: plain system calls on a number; they fail if it is not a descriptor.
        let is_read_end = unsafe {
            found.st_mode & libc::S_IFMT == libc::S_IFIFO
                && libc::fcntl(descriptor, libc::F_GETFL) & libc::O_ACCMODE == libc::O_RDONLY
        };
        if option(descriptor, libc::SO_ACCEPTCONN) == Some(1) {
            self.ports.extend(own_port(descriptor));
            // SAFETY: as above.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        } else if !is_read_end {
            return;
        }
        self.inherited.push(Inherited {
            descriptor,
            device: found.st_dev,
            inode: found.st_ino,
        });
    }

    /// Closes what httpd had open. Called in the handler.
    fn close(&self) {
        for inherited in &self.inherited {
            let is_it = |found: libc::stat| {
                (found.st_dev, found.st_ino) == (inherited.device, inherited.inode)
            };
            // The application may have got this number for another file since.
            if identity(inherited.descriptor).is_some_and(is_it) {
                // SAFETY: a descriptor of this process alone, which no longer runs any code of httpd.
                unsafe { libc::close(inherited.descriptor) };
            }
        }
        each_descriptor(|descriptor| {
            let is_stream = option(descriptor, libc::SO_TYPE) == Some(libc::SOCK_STREAM);
            if is_stream && own_port(descriptor).is_some_and(|port| self.ports.contains(&port)) {
                // SAFETY: as above.
                unsafe { libc::close(descriptor) };
            }
        });
    }

    /// Restores the default action of the signals that httpd handles. Called in the handler.
    fn give_signals_back(&self) {
        /// The highest signal that is not a real-time signal.
        const LAST: c_int = 31;
        // SAFETY: plain system calls with live arguments.
        unsafe {
            for signal in 1..=LAST {
                let mut action: libc::sigaction = std::mem::zeroed();
                if libc::sigaction(signal, std::ptr::null(), &mut action) == 0
                    && self
                        .code
                        .iter()
                        .any(|code| code.contains(&action.sa_sigaction))
                {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
        }
    }
}

/// The address of a Unix socket, as `getsockname(2)` gives it.
#[derive(PartialEq, Eq)]
struct UnixAddress {
    path: [c_char; PATH],
    length: libc::socklen_t,
}

/// The size of the path in an address.
const PATH: usize = 108;

impl UnixAddress {
    /// Returns the own address of a stream socket; `None` for other descriptors.
    fn of(descriptor: c_int) -> Option<Self> {
        if option(descriptor, libc::SO_TYPE) != Some(libc::SOCK_STREAM) {
            return None;
        }
        // SAFETY: a plain system call with live arguments, which writes no more than `length` bytes; all bytes of an
        // address may be zero.
        let (address, length) = unsafe {
            let mut address: libc::sockaddr_un = std::mem::zeroed();
            let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
            if libc::getsockname(descriptor, (&raw mut address).cast(), &raw mut length) != 0 {
                return None;
            }
            (address, length)
        };
        let has_name = length as usize > size_of::<libc::sa_family_t>();
        (i32::from(address.sun_family) == libc::AF_UNIX && has_name).then_some(Self {
            path: address.sun_path,
            length,
        })
    }
}

/// This process serves the connections to a Unix socket. Its copies close the socket and the connections, so that the
/// other sides see when this process ends.
pub fn serve(listener: &impl AsRawFd) {
    SERVED.get_or_init(|| UnixAddress::of(listener.as_raw_fd()));
}

/// Closes what [`serve`] has named. Called in the handler.
fn close_served(served: &UnixAddress) {
    each_descriptor(|descriptor| {
        // A connection that was accepted has the address of its listening socket.
        if UnixAddress::of(descriptor).as_ref() == Some(served) {
            // SAFETY: a descriptor of this process alone, whose owners do nothing in a copy. [S-13]
            unsafe { libc::close(descriptor) };
        }
    });
}

/// Registers the handlers: each process that is forked from this one is a copy from now on. `forked` is called first in
/// each copy; it may do what a signal handler may. Only the first call counts.
pub fn watch(forked: fn()) {
    if WATCHED.set(forked).is_err() {
        return;
    }
    // SAFETY: the functions stay mapped and take no data. The functions of `atexit` and `on_exit` run in reverse order,
    // so this one runs before httpd's clean-up at exit. [S-1] [S-13]
    unsafe {
        libc::pthread_atfork(Some(fork_begins), Some(fork_ends), Some(copy_begins));
        on_exit(copy_exits, std::ptr::null_mut());
    }
}

/// Returns whether this process is a copy of one that [`watch`]es. Makes no system call.
pub fn is_copy() -> bool {
    IS_COPY.load(Relaxed)
}

thread_local! {
    /// The signal mask of the thread that forks.
    static MASK: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
}

/// Blocks all signals: until the copy has dropped httpd's handlers, they would end it as if it were a child.
unsafe extern "C" fn fork_begins() {
    // SAFETY: plain system calls with live arguments.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        let done = libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) == 0;
        done.then_some(before)
    };
    MASK.set(before);
}

unsafe extern "C" fn fork_ends() {
    if let Some(before) = MASK.take() {
        // SAFETY: a plain system call with live arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    }
}

unsafe extern "C" fn copy_begins() {
    IS_COPY.store(true, Relaxed);
    guard_or((), || {
        if let Some(forked) = WATCHED.get() {
            forked();
        }
        if let Some(Some(served)) = SERVED.get() {
            close_served(served);
        }
        if let Some(noted) = NOTED.get() {
            noted.close();
            noted.give_signals_back();
        }
    });
    // SAFETY: `fork_ends` takes no data; the C library calls it in the original process.
    unsafe { fork_ends() };
    if NOTED.get().is_some_and(|noted| noted.blocks_signals) {
        // SAFETY: plain system calls with live arguments.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        }
    }
}

/// The C library runs this when a process calls `exit` or its last thread ends. Ends a copy.
unsafe extern "C" fn copy_exits(status: c_int, _: *mut c_void) {
    if IS_COPY.load(Relaxed) {
        // SAFETY: ends the process without httpd's clean-up, which the child has to do.
        unsafe { libc::_exit(status) }
    }
}

/// Returns which file a descriptor stands for.
fn identity(descriptor: c_int) -> Option<libc::stat> {
    // SAFETY: a plain system call with live arguments.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &mut found) == 0).then_some(found)
    }
}

/// Returns a numeric option of a socket; `None` if the descriptor is not a socket.
fn option(descriptor: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: a plain system call with live arguments.
    let answer = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &mut length,
        )
    };
    (answer == 0).then_some(value)
}

/// Returns the local port of a socket, in network byte order, if it has one.
fn own_port(descriptor: c_int) -> Option<u16> {
    // SAFETY: a plain system call with live arguments; the family says which address was filled in, and both kinds have
    // their port at the same offset.
    unsafe {
        let mut address: libc::sockaddr_in6 = std::mem::zeroed();
        let mut length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        let answer = libc::getsockname(descriptor, (&raw mut address).cast(), &mut length);
        let has_port = matches!(
            c_int::from(address.sin6_family),
            libc::AF_INET | libc::AF_INET6
        );
        (answer == 0 && has_port && address.sin6_port != 0).then_some(address.sin6_port)
    }
}

/// Calls `with` for each open descriptor, which `with` may close. Allocates nothing.
fn each_descriptor(mut with: impl FnMut(c_int)) {
    /// Highest number of descriptors that are tried if there is no `/proc`.
    const MOST: libc::rlim_t = 65_536;
    #[repr(align(8))]
    struct Entries([u8; 4096]);
    /// Offsets of the length and the name in `linux_dirent64`.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    // SAFETY: plain system calls with live arguments.
    let folder = unsafe {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        libc::open(c"/proc/self/fd".as_ptr(), flags)
    };
    if folder < 0 {
        // SAFETY: as above.
        let most = unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            match libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) {
                0 => limit.rlim_cur.min(MOST),
                _ => MOST,
            }
        };
        (0..most as c_int).for_each(with);
        return;
    }
    let mut entries = Entries([0; 4096]);
    loop {
        // SAFETY: as above; the kernel writes at most `size` bytes.
        let count = unsafe {
            let (buffer, size) = (entries.0.as_mut_ptr(), entries.0.len());
            libc::syscall(libc::SYS_getdents64, folder, buffer, size)
        };
        let Some(filled) = usize::try_from(count).ok().filter(|count| *count > 0) else {
            break;
        };
        let mut rest = &entries.0[..filled.min(entries.0.len())];
        while let Some(&[low, high]) = rest.get(LENGTH..LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let Some(name) = rest.get(NAME..length) else {
                break;
            };
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            let number = std::str::from_utf8(name).ok();
            if let Some(number) = number.and_then(|name| name.parse().ok())
                && number != folder
            {
                with(number);
            }
            rest = &rest[length..];
        }
    }
    // SAFETY: opened above.
    unsafe { libc::close(folder) };
}

/// Returns the addresses of all code that is loaded now.
fn code() -> Vec<Range<usize>> {
    unsafe extern "C" fn each(
        object: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        guard_or(1, || {
            // SAFETY: the linker lends an object with `dlpi_phnum` headers; the data is the list below.
            unsafe {
                let found = &mut *data.cast::<Vec<Range<usize>>>();
                for at in 0..usize::from((*object).dlpi_phnum) {
                    let header = &*(*object).dlpi_phdr.add(at);
                    if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                        let start = (*object).dlpi_addr as usize + header.p_vaddr as usize;
                        found.push(start..start + header.p_memsz as usize);
                    }
                }
            }
            0
        })
    }
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: `each` is only called, with the list, before the call returns.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut found).cast()) };
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn every_descriptor_is_seen() {
        let files: Vec<_> = (0..400)
            .map(|_| std::fs::File::open("/dev/null").expect("it is there"))
            .collect();
        let mut seen = Vec::new();
        each_descriptor(|descriptor| seen.push(descriptor));
        for file in &files {
            assert!(seen.contains(&file.as_raw_fd()), "{file:?}");
        }
    }

    #[test]
    fn listeners_and_their_connections_are_told_from_other_sockets() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().expect("bound").port();
            let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("there");
            let (theirs, _) = listener.accept().expect("a connection");
            assert_eq!(option(listener.as_raw_fd(), libc::SO_ACCEPTCONN), Some(1));
            assert_eq!(own_port(listener.as_raw_fd()), Some(port.to_be()));
            assert_eq!(own_port(theirs.as_raw_fd()), Some(port.to_be()));
            assert_ne!(own_port(ours.as_raw_fd()), Some(port.to_be()));
        }
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(option(file.as_raw_fd(), libc::SO_TYPE), None);
        assert_eq!(own_port(file.as_raw_fd()), None);
    }

    #[test]
    fn code_that_is_loaded_is_known() {
        let here = code_that_is_loaded_is_known as fn() as usize;
        let free = libc::free as unsafe extern "C" fn(*mut c_void) as usize;
        let found = code();
        for address in [here, free] {
            assert!(found.iter().any(|code| code.contains(&address)));
        }
        assert!(
            !found
                .iter()
                .any(|code| code.contains(&libc::SIG_DFL) || code.contains(&libc::SIG_IGN))
        );
    }
}
