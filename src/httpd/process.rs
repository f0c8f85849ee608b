//! The process: its user and group, the CPU time that it has used, the place of its files.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{c_bytes, sys};

/// Returns the number of the user that children run as (`User`).
pub fn user() -> u32 {
    // SAFETY: set while the configuration is read, by the only thread of the process.
    unsafe { sys::ap_unixd_config.user_id }
}

/// Returns the number of the group that children run as (`Group`).
pub fn group() -> u32 {
    // SAFETY: as above.
    unsafe { sys::ap_unixd_config.group_id }
}

/// Returns the path of the file `name` in `DefaultRuntimeDir`.
pub fn runtime_file(name: &str) -> Option<PathBuf> {
    let name = CString::new(name).ok()?;
    // SAFETY: the answer is null or a C string of the process pool, which is never cleared; only a few are ever made.
    unsafe {
        let path = sys::ap_runtime_dir_relative(sys::ap_pglobal, name.as_ptr());
        let path = c_bytes(path);
        (!path.is_empty()).then(|| Path::new(OsStr::from_bytes(path)).to_path_buf())
    }
}

/// Returns the path of the file `name` relative to `ServerRoot`.
pub fn server_file(name: &str) -> Option<PathBuf> {
    let name = CString::new(name).ok()?;
    // SAFETY: as above.
    unsafe {
        let path = c_bytes(sys::ap_server_root_relative(sys::ap_pglobal, name.as_ptr()));
        (!path.is_empty()).then(|| Path::new(OsStr::from_bytes(path)).to_path_buf())
    }
}

/// Returns the CPU time of the process so far, in nanoseconds: in user mode and in system mode.
pub fn cpu_time() -> [u64; 2] {
    let nanoseconds = |time: libc::timeval| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec) * 1_000_000_000 + part(time.tv_usec) * 1_000
    };
    // SAFETY: a struct of numbers, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    [nanoseconds(usage.ru_utime), nanoseconds(usage.ru_stime)]
}

/// Returns whether a signal is pending that asks this process to end. For threads that block all of these signals.
pub fn is_asked_to_end() -> bool {
    let ends = [
        libc::SIGTERM,
        libc::SIGHUP,
        sys::AP_SIG_GRACEFUL as libc::c_int,
    ];
    // SAFETY: a set of signals, which the call fills.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&mut pending) == 0
            && ends
                .iter()
                .any(|&signal| libc::sigismember(&pending, signal) == 1)
    }
}

/// Returns the current time in the format of the header `Date`.
pub fn http_date() -> String {
    /// `APR_RFC822_DATE_LEN`
    const LENGTH: usize = 30;
    let mut text = [0; LENGTH];
    // SAFETY: writes `LENGTH` bytes, the last one a NUL.
    let text = unsafe {
        sys::apr_rfc822_date(text.as_mut_ptr(), sys::apr_time_now());
        c_bytes(text.as_ptr())
    };
    String::from_utf8_lossy(text).into_owned()
}
