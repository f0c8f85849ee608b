//! A helper: a process beside the children, forked by the parent, with the rights of a child and nothing of httpd in it.
//!
//! 1. [`Helper::start`] forks it. The parent registers it with APR, so that the MPM reports its death.
//! 2. When it dies, a function is called in the parent, which may start another one.
//! 3. When the configuration is cleared, at each restart and at the end, the parent sends `SIGTERM` and waits a little,
//!    so that the helper can end what it has begun; then it kills it.
//! 4. When the parent itself is killed, the kernel sends `SIGTERM`.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, io};

use wsgi_core::messages::Message;

use crate::guard::guard_or;
use crate::pool::Pool;
use crate::retained::Retained;
use crate::{log, mpm, reaped, record, sys};

/// What the helper does: works until the first descriptor can be read. The second one is what it was started with.
pub type Body = fn(OwnedFd, Option<OwnedFd>);
/// Called in the parent with the process that died, and how.
pub type Died = fn(parent: &ParentThread, pid: u32, how: &str);

/// Says that the thread which has it is the main thread of the parent, inside of a hook: the thread from which httpd forks its
/// own children. It neither leaves that thread nor outlives the hook.
pub struct ParentThread(PhantomData<*mut ()>);

impl ParentThread {
    /// # Safety
    /// The calling thread must be the main thread of httpd's parent for as long as the value lives. [S-14]
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// How long the parent waits for the helper to end by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// The configuration pool.
static POOL: AtomicPtr<sys::apr_pool_t> = AtomicPtr::new(std::ptr::null_mut());

/// # Safety
/// `pool` must be the configuration pool, until the next call.
pub(crate) unsafe fn set_pool(pool: *mut sys::apr_pool_t) {
    POOL.store(pool, Relaxed);
}

/// One helper: what it is, and in the parent the process that it runs in.
pub struct Helper {
    name: &'static CStr,
    body: Body,
    died: Died,
    /// The process; 0 for none.
    pid: AtomicI32,
    /// The process that started it.
    parent: AtomicI32,
}

/// What APR is given.
#[repr(C)]
struct Registered {
    /// First, as its address is what APR wants.
    process: sys::apr_proc_t,
    helper: &'static Helper,
}

// SAFETY: numbers, and pointers that are null; APR hands it back to the code that has made it.
unsafe impl Send for Registered {}

impl Helper {
    /// A helper that does not run yet. Its process is called `name`.
    pub const fn new(name: &'static CStr, body: Body, died: Died) -> Self {
        Self {
            name,
            body,
            died,
            pid: AtomicI32::new(0),
            parent: AtomicI32::new(0),
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.pid.load(Relaxed) != 0
    }

    /// Starts it, if it does not run. It has no descriptors but the standard ones and `keep`. Locks that the caller holds stay
    /// locked in the helper.
    ///
    /// # Errors
    /// Those of `fork(2)`.
    pub fn start(&'static self, _: &ParentThread, keep: Option<OwnedFd>) -> io::Result<()> {
        let pool = POOL.load(Relaxed);
        if self.is_running() || pool.is_null() {
            return Ok(());
        }
        let parent = std::process::id().cast_signed();
        // SAFETY: on the thread from which httpd forks its children, which go on with a copy of that thread alone, as this
        // process does; it never returns from `run`. [S-14]
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => self.run(parent, keep),
            pid => pid,
        };
        self.pid.store(pid, Relaxed);
        self.parent.store(parent, Relaxed);
        // SAFETY: all of it lives as long as the configuration pool; a process without streams is all zero but for its
        // number. [S-1] [S-14]
        unsafe {
            let mut process: sys::apr_proc_t = std::mem::zeroed();
            process.pid = pid;
            let helper = self;
            let registered: *mut Registered =
                Pool::from_raw(pool).own(Registered { process, helper });
            sys::apr_proc_other_child_register(
                &raw mut (*registered).process,
                Some(maintain),
                registered.cast(),
                std::ptr::null_mut(),
                pool,
            );
        }
        Ok(())
    }

    /// The helper's side of the fork.
    fn run(&self, parent: libc::pid_t, keep: Option<OwnedFd>) -> ! {
        let status = guard_or(2, || match prepare(self.name, parent, keep.as_ref()) {
            Ok(ending) => {
                (self.body)(ending, keep);
                0
            }
            Err(problem) => {
                let name = self.name.to_string_lossy();
                let line = Message::HelperStart.line(&[&name, &problem]);
                log::server(log::Level::Error, line.as_bytes());
                1
            }
        });
        // SAFETY: ends the process without httpd's own clean-up, which is for the parent to do.
        unsafe { libc::_exit(status) }
    }
}

/// What APR has to say of a helper.
unsafe extern "C" fn maintain(reason: c_int, registered: *mut c_void, status: c_int) {
    guard_or((), || {
        // SAFETY: what `start` has registered, which lives until the configuration pool has been cleared.
        let helper = unsafe { (*registered.cast::<Registered>()).helper };
        if helper.parent.load(Relaxed) != std::process::id().cast_signed() {
            return;
        }
        match reason.cast_unsigned() {
            sys::APR_OC_REASON_DEATH | sys::APR_OC_REASON_LOST => {
                let pid = helper.pid.swap(0, Relaxed);
                // SAFETY: what it was registered with; APR calls back with another reason.
                unsafe { sys::apr_proc_other_child_unregister(registered) };
                if pid != 0 && !mpm::is_stopping() {
                    // SAFETY: APR calls this from the main loop of the parent. [S-14]
                    let parent = unsafe { ParentThread::new() };
                    let how = how(reason.cast_unsigned(), status);
                    (helper.died)(&parent, pid.cast_unsigned(), &how);
                }
            }
            sys::APR_OC_REASON_UNREGISTER => end(helper.pid.swap(0, Relaxed)),
            _ => {}
        }
    });
}

/// `status` is that of `waitpid(2)`.
fn how(reason: u32, status: c_int) -> String {
    if reason == sys::APR_OC_REASON_LOST {
        String::from("unnoticed")
    } else if libc::WIFSIGNALED(status) {
        format!("by signal {}", libc::WTERMSIG(status))
    } else {
        format!("with status {}", libc::WEXITSTATUS(status))
    }
}

/// Ends the helper and takes its status, so that httpd does not wonder whose it is.
fn end(pid: libc::pid_t) {
    if pid == 0 {
        return;
    }
    let until = Instant::now() + PATIENCE;
    // SAFETY: the number of a process that we have started and whose status nobody has taken yet.
    unsafe {
        libc::kill(pid, libc::SIGTERM);
        while libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == 0 {
            if Instant::now() >= until {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Makes an unprivileged process of the parent's copy.
fn prepare(name: &CStr, parent: libc::pid_t, keep: Option<&OwnedFd>) -> Result<OwnedFd, String> {
    let failed = |what: &str| format!("{what}: {}", io::Error::last_os_error());
    // SAFETY: plain system calls with live arguments; httpd drops privileges as it does in its children; nothing of this
    // process uses the descriptors that are closed, and what is retained forgets them.
    unsafe {
        let mut ending: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut ending);
        libc::sigaddset(&mut ending, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_SETMASK, &ending, std::ptr::null_mut());
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        reaped::forget();
        // They are for the parent, also where they are sent to all processes of a terminal.
        for signal in [
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGWINCH,
            libc::SIGPIPE,
        ] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        // While there is /proc: the change of user may change the root, too.
        let open = open_descriptors(keep).map_err(|error| format!("/proc/self/fd: {error}"))?;
        let pool = POOL.load(Relaxed);
        if sys::ap_run_drop_privileges(pool, log::main_server()) != 0 {
            return Err(String::from("it could not become the unprivileged user"));
        }
        // After the change of user, which takes the wish back.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
            return Err(failed("prctl"));
        }
        if libc::getppid() != parent {
            return Err(String::from("httpd has ended meanwhile"));
        }
        // Lines without a server go by the level for those.
        let main = log::main_server();
        if !main.is_null() {
            sys::ap_default_loglevel = sys::wsgi_shim_server_log_level(main, record::index());
        }
        // Logs are among what is closed; lines go to standard error from here on, which is the log of the main server.
        log::forget_main();
        for descriptor in open {
            libc::close(descriptor);
        }
        Retained::get().forget_descriptors();
        let descriptor = libc::signalfd(-1, &ending, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if descriptor < 0 {
            return Err(failed("signalfd"));
        }
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// The descriptors that are open, but for the standard ones and `keep`.
fn open_descriptors(keep: Option<&OwnedFd>) -> io::Result<Vec<c_int>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let keep = keep.map(AsRawFd::as_raw_fd);
    let entries = fs::read_dir("/proc/self/fd")?;
    Ok(entries
        .flatten()
        .filter_map(number)
        .filter(|&open| open > 2 && Some(open) != keep)
        .collect())
}
