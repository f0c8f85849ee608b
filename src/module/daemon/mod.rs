//! Process groups: applications in processes of their own, which requests reach over the wire (`src/wire`). What users of
//! mod_wsgi's daemon mode find here: [M-21].
//!
//! | file | runs in | what is in it |
//! |---|---|---|
//! | `groups.rs` | all | the groups of the configuration in force |
//! | `segments.rs` | all | the memory in which the processes of a group count |
//! | `sockets.rs` | the parent | the listening sockets of the slots, kept over restarts |
//! | `supervisor.rs`, `slot_run.rs` | the supervisor | starts, replaces and ends the processes; one slot of them |
//! | `shares.rs` | a child of httpd | the threads that requests of a group hold |
//! | `control.rs` | the supervisor, a process of a group | what they say to each other, and signals |
//! | `request_line.rs` | a process of a group, a child of httpd | the name of a request in messages |
//! | `accounts.rs` | all | users and groups as options name them |
//! | `identity.rs`, `start_watch.rs`, `process.rs`, `serve.rs`, `turns.rs` | a process of a group | its user and limits, the watch over its start, its life, its requests, the threads that run none |
//! | `client.rs` | a child of httpd | which process gets a request, and the way there |
//!
//! The supervisor is a process of its own, because the MPM's main loop calls a module only every ten seconds, and
//! httpd's parent must not wait for anything. It keeps the rights of the parent, has one thread, and runs no Python.

mod accounts;
pub(crate) mod client;
mod control;
pub(crate) mod groups;
mod identity;
mod process;
mod request_line;
pub(crate) mod segments;
mod serve;
mod shares;
mod slot_run;
pub(crate) mod sockets;
mod start_watch;
pub(crate) mod supervisor;
mod turns;

/// Prepares a child of httpd: it connects to the processes of groups, and supervises none.
pub(crate) fn child_begins() {
    sockets::child_begins();
    segments::child_begins();
    supervisor::child_begins();
    client::child_begins();
}
