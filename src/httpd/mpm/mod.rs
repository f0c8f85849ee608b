//! What we ask the MPM, and what we do to it.
//!
//! httpd has no call by which a module could have one child replaced by another. So this folder, and no other code of
//! ours, writes to what belongs to httpd:
//!
//! | what | MPM | where | facts |
//! |---|---|---|---|
//! | `accept_func` of each listener of this child is wrapped, and returns `APR_EGENERAL` once the child must leave | worker, event | [`accept::wrap`] | S-16, S-17 |
//! | `AP_SIG_GRACEFUL` is sent to the main thread of this child while it waits for a connection | prefork | [`accept::leave`] | S-18 |
//! | `not_accepting` (event), `quiescing` (worker) or the state of the worker (prefork) is set in this child's own slot of the scoreboard | all three | [`scoreboard::ask_for_successor`] | S-19 |
//! | a child that has left by its accept function exits with status 0 | worker, event | [`child_exit`] | S-16 |
//! | the child's pool is destroyed inside `child_init`, and the process ends | all three | [`child_exit::ChildInit::end_child`] | S-56 |
//! | `keepalive` of a connection is `AP_CONN_CLOSE` once the child must leave | all three | [`connections`] | – |
//! | a connection is made to one of the server's own listeners, as httpd's parent does | all three | [`accept::dummy_connection`] | – |
//!
//! **One switch turns off all of it but the end inside `child_init`**, which is for a child that would hang: `Define WSGI_LEAVE_MPM_ALONE` in httpd's configuration, or `-D
//! WSGI_LEAVE_MPM_ALONE` on its command line. [`LeaveBy::of_mpm`] reads it. Then only httpd itself replaces children:
//! new code needs a restart, and the error log says so. The same holds without the switch for an MPM of another name,
//! and where `ListenCoresBucketsRatio` is used.
//!
//! Everything else in this folder only reads.

pub mod accept;
pub mod child_exit;
pub mod connections;
mod query;
pub mod scoreboard;

pub use query::{
    VERSION, banner, build_date, description, is_stopping, keep_alive_timeout, name, query,
    single_process,
};
pub(crate) use query::{generation, is_first_pass, restarts_gracefully};

use crate::sys;

/// How a child of this MPM leaves gracefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveBy {
    /// By a signal to its main thread.
    Signal,
    /// By its accept function.
    Accept,
}

impl LeaveBy {
    /// Returns how children of the running MPM leave.
    ///
    /// # Errors
    /// A sentence for the log that says why they cannot.
    pub fn of_mpm() -> Result<Self, String> {
        // SAFETY: a lookup by name.
        if unsafe { sys::ap_exists_config_define(c"WSGI_LEAVE_MPM_ALONE".as_ptr()) } != 0 {
            return Err("WSGI_LEAVE_MPM_ALONE is defined".into());
        }
        match name() {
            b"prefork" => Ok(Self::Signal),
            // Only the listeners of the first bucket can be found by a symbol. SAFETY: a number that is set before the
            // first child starts.
            b"worker" | b"event" if unsafe { sys::ap_num_listen_buckets } > 1 => {
                Err("ListenCoresBucketsRatio is used".into())
            }
            b"worker" | b"event" => Ok(Self::Accept),
            other => Err(format!(
                "it is not known how children of the MPM {} end",
                String::from_utf8_lossy(other)
            )),
        }
    }
}
