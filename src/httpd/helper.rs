//! A helper: a process beside the children. The parent forks it; it keeps nothing of httpd. It has the rights of a child
//! ([`Helper::new`]) or those of the parent ([`Helper::privileged`]).
//!
//! 1. [`Helper::start`] forks it. The parent registers it with APR, so that the MPM reports its death.
//! 2. When it dies, a function is called in the parent, which may start another one.
//! 3. When the configuration is cleared, at each restart and at the end, the parent sends `SIGTERM` and waits for a
//!    bounded time, so that the helper can finish what it has begun; then the parent kills it. A privileged helper stays
//!    over a graceful restart: the next one takes over from it.
//! 4. When the parent itself is killed, the kernel sends `SIGTERM` to the helper.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wsgi_core::messages::Message;

use crate::guard::guard_or;
use crate::log::LogServer;
use crate::pool::Pool;
use crate::retained::Retained;
use crate::{fork, log, mpm, reaped, record, sys};

/// What the helper runs. It must return once the descriptor is readable. The others were given to [`Helper::start`].
pub type Body = fn(OwnedFd, Vec<OwnedFd>);
/// Called in the parent with the number of the process that died, and how it died.
pub type Died = fn(parent: &ParentThread, pid: u32, how: &str);

/// Proof that its thread is the main thread of the parent, inside a hook: the thread from which httpd forks its
/// children. The value neither leaves that thread nor outlives the hook.
pub struct ParentThread(PhantomData<*mut ()>);

impl ParentThread {
    /// # Safety
    /// The calling thread must be the main thread of httpd's parent for as long as the value lives. [S-14]
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }
}

/// How long the parent waits for the helper to end by itself, unless [`Helper::set_patience`] was called.
const PATIENCE: Duration = Duration::from_secs(1);

/// The configuration pool.
static POOL: AtomicPtr<sys::apr_pool_t> = AtomicPtr::new(std::ptr::null_mut());

/// # Safety
/// `pool` must be the configuration pool, and stay valid until the next call.
pub(crate) unsafe fn set_pool(pool: *mut sys::apr_pool_t) {
    POOL.store(pool, Relaxed);
}

/// One helper: its name and functions, and in the parent its process.
pub struct Helper {
    name: &'static CStr,
    body: Body,
    died: Died,
    /// The helper's process; 0 for none.
    pid: AtomicI32,
    /// The process that started the helper.
    parent: AtomicI32,
    is_privileged: bool,
    /// How long the parent waits for the helper's end, milliseconds.
    patience: AtomicU64,
    /// The number of the configuration in which the helper was started.
    generation: AtomicI32,
    /// When the helper was started last in this configuration.
    began: Mutex<Option<Instant>>,
    /// Helpers of earlier configurations that end by themselves.
    earlier: Mutex<Vec<libc::pid_t>>,
}

/// A helper that has lived for less than this is not replaced at once.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// What is registered with APR.
#[repr(C)]
struct Registered {
    /// The first field, as APR takes the address of the process.
    process: sys::apr_proc_t,
    helper: &'static Helper,
}

// SAFETY: numbers and null pointers; only APR gets the address, and passes it back to the code in this file.
unsafe impl Send for Registered {}

impl Helper {
    /// Returns a helper that does not run yet. Its process will be called `name`.
    pub const fn new(name: &'static CStr, body: Body, died: Died) -> Self {
        Self::with(name, body, died, false)
    }

    /// Returns a helper that keeps the rights of the parent, and stays over a graceful restart.
    pub const fn privileged(name: &'static CStr, body: Body, died: Died) -> Self {
        Self::with(name, body, died, true)
    }

    const fn with(name: &'static CStr, body: Body, died: Died, is_privileged: bool) -> Self {
        Self {
            name,
            body,
            died,
            pid: AtomicI32::new(0),
            parent: AtomicI32::new(0),
            is_privileged,
            patience: AtomicU64::new(PATIENCE.as_millis() as u64),
            generation: AtomicI32::new(0),
            began: Mutex::new(None),
            earlier: Mutex::new(Vec::new()),
        }
    }

    /// Sets how long the parent waits for the end of the helper before it kills it.
    pub fn set_patience(&self, patience: Duration) {
        let milliseconds = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience.store(milliseconds, Relaxed);
    }

    /// Returns whether the helper runs.
    pub fn is_running(&self) -> bool {
        self.pid.load(Relaxed) != 0
    }

    /// Returns whether the helper was started in this configuration. One that died too soon to be replaced at once is then
    /// started again later.
    pub fn was_started(&self) -> bool {
        self.began().is_some()
    }

    /// Returns whether a helper that has died may be replaced at once. One that died too soon waits for the
    /// next look of the parent.
    pub fn has_lived(&self) -> bool {
        self.began()
            .is_none_or(|began| began.elapsed() >= SHORT_LIFE)
    }

    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the helper if it does not run. It gets no descriptors but the standard ones, `keep`, and those of `logs`.
    /// Locks that the caller holds stay locked in the helper.
    ///
    /// # Errors
    /// Those of `fork(2)`.
    pub fn start(
        &'static self,
        _: &ParentThread,
        keep: Vec<OwnedFd>,
        logs: &[LogServer],
    ) -> io::Result<()> {
        let pool = POOL.load(Relaxed);
        if self.is_running() || pool.is_null() {
            return Ok(());
        }
        *self.began() = Some(Instant::now());
        let parent = std::process::id().cast_signed();
        // SAFETY: on the thread from which httpd forks its children. Like them, the new process goes on with a copy of
        // that thread alone; it never returns from `run`. [S-14]
        let pid = match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => self.run(parent, keep, logs),
            pid => pid,
        };
        self.pid.store(pid, Relaxed);
        self.parent.store(parent, Relaxed);
        self.generation.store(mpm::generation(), Relaxed);
        self.register(pid, pool);
        Ok(())
    }

    /// Must be called once in each configuration, when it has come into force. Follows privileged helpers of earlier
    /// ones.
    pub fn prepare(&'static self, _: &ParentThread) {
        *self.began() = None;
        let pool = POOL.load(Relaxed);
        if !pool.is_null() {
            for earlier in std::mem::take(&mut *self.earlier()) {
                self.register(earlier, pool);
            }
        }
    }

    /// Makes APR report the death of a helper, for as long as the configuration is in force.
    fn register(&'static self, pid: libc::pid_t, pool: *mut sys::apr_pool_t) {
        // SAFETY: all of it lives as long as the configuration pool; all fields of a process without streams are zero,
        // except its number. [S-1] [S-14]
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
    }

    fn earlier(&self) -> MutexGuard<'_, Vec<libc::pid_t>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a helper, as the configuration is cleared.
    fn configuration_ends(&self, pid: libc::pid_t) {
        if self.is_privileged && mpm::restarts_gracefully(self.generation.load(Relaxed)) {
            self.earlier().push(pid);
        } else {
            end(pid, Duration::from_millis(self.patience.load(Relaxed)));
        }
    }

    /// Runs the helper in the forked process.
    fn run(&self, parent: libc::pid_t, keep: Vec<OwnedFd>, logs: &[LogServer]) -> ! {
        let status = guard_or(2, || match prepare(self, parent, &keep, logs) {
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
        // SAFETY: ends the process without httpd's clean-up, which the parent has to do.
        unsafe { libc::_exit(status) }
    }
}

/// Called by APR when the helper has died, or is unregistered because the configuration pool is cleared.
unsafe extern "C" fn maintain(reason: c_int, registered: *mut c_void, status: c_int) {
    guard_or((), || {
        // SAFETY: `start` has registered it, and it lives until the configuration pool has been cleared.
        let (helper, pid) = unsafe {
            let registered = registered.cast::<Registered>();
            ((*registered).helper, (*registered).process.pid)
        };
        if helper.parent.load(Relaxed) != std::process::id().cast_signed() {
            return;
        }
        match reason.cast_unsigned() {
            sys::APR_OC_REASON_DEATH | sys::APR_OC_REASON_LOST => {
                let was_current = helper
                    .pid
                    .compare_exchange(pid, 0, Relaxed, Relaxed)
                    .is_ok();
                // SAFETY: the pointer that was registered; APR then calls this function again, with the other reason.
                unsafe { sys::apr_proc_other_child_unregister(registered) };
                if was_current && !mpm::is_stopping() {
                    // SAFETY: APR calls this from the main loop of the parent. [S-14]
                    let parent = unsafe { ParentThread::new() };
                    let how = how(reason.cast_unsigned(), status);
                    (helper.died)(&parent, pid.cast_unsigned(), &how);
                }
            }
            // The pointer is also unregistered after a death.
            sys::APR_OC_REASON_UNREGISTER if is_alive(pid) => {
                let _ = helper.pid.compare_exchange(pid, 0, Relaxed, Relaxed);
                helper.configuration_ends(pid);
            }
            _ => {}
        }
    });
}

/// Returns how a helper died, in words. `status` is that of `waitpid(2)`.
fn how(reason: u32, status: c_int) -> String {
    if reason == sys::APR_OC_REASON_LOST {
        String::from("unnoticed")
    } else if libc::WIFSIGNALED(status) {
        format!("by signal {}", libc::WTERMSIG(status))
    } else {
        format!("with status {}", libc::WEXITSTATUS(status))
    }
}

/// Returns whether a child of this process has not been waited for.
fn is_alive(pid: libc::pid_t) -> bool {
    // SAFETY: a plain system call with live arguments; `WNOWAIT` leaves the child to be waited for.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid.cast_unsigned(), &mut info, flags) == 0
    }
}

/// Ends the helper and takes its status, so that httpd does not log an unknown process.
fn end(pid: libc::pid_t, patience: Duration) {
    let until = Instant::now() + patience;
    // SAFETY: a process that this process has started, and whose status has not been taken yet.
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

/// Makes a helper of the forked copy of the parent. Returns a descriptor that is readable after `SIGTERM`.
fn prepare(
    helper: &Helper,
    parent: libc::pid_t,
    keep: &[OwnedFd],
    logs: &[LogServer],
) -> Result<OwnedFd, String> {
    let name = helper.name;
    let failed = |what: &str| format!("{what}: {}", io::Error::last_os_error());
    // SAFETY: plain system calls with live arguments; httpd drops privileges as it does in its children; this process
    // uses none of the descriptors that are closed, and the retained data forget theirs.
    unsafe {
        let mut ending: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut ending);
        libc::sigaddset(&mut ending, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_SETMASK, &ending, std::ptr::null_mut());
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        reaped::forget();
        // These signals are for the parent, even where a terminal sends them to all its processes.
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
        // Read before the change of user, which may also change the root, and then there may be no /proc.
        let open = fork::open_descriptors(keep, logs)
            .map_err(|error| format!("/proc/self/fd: {error}"))?;
        let pool = POOL.load(Relaxed);
        if !helper.is_privileged && sys::ap_run_drop_privileges(pool, log::main_server()) != 0 {
            return Err(String::from("it could not become the unprivileged user"));
        }
        // After the change of user, which resets this setting.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
            return Err(failed("prctl"));
        }
        if libc::getppid() != parent {
            return Err(String::from("httpd has ended meanwhile"));
        }
        // Lines without a server are filtered by `ap_default_loglevel`.
        let main = log::main_server();
        if !main.is_null() {
            sys::ap_default_loglevel = sys::wsgi_shim_server_log_level(main, record::index());
        }
        // The logs are among the descriptors that are closed. From here on, lines go to standard error, which is the
        // log of the main server.
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
