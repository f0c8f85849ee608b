//! Ctrl-C ends the server under measurement; the measurement then fails and cleans up while it returns.
//!
//! The server has its own process group, because httpd ends by a signal to its whole group. So the signal of the
//! terminal does not reach it directly.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The process id of the running server; 0 if there is none.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn watch() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            send(RUNNING.load(Ordering::SeqCst), Signal::TERM);
        }
    });
    Ok(())
}

/// Sets the server that Ctrl-C ends; refuses if an interruption has already come.
pub(crate) fn running(pid: u32) -> Result<()> {
    RUNNING.store(pid, Ordering::SeqCst);
    check()
}

pub(crate) fn check() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

pub(crate) fn ended() {
    RUNNING.store(0, Ordering::SeqCst);
}

/// Sends a signal to a process that may already have ended.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
