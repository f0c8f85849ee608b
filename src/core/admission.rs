//! Who may be inside an interpreter, who waits in line, and how a place passes from one to the next ([E-6], [E-7]).
//!
//! [`room::Room`] counts those inside and keeps the line; [`ticket::Ticket`] is what stands in line and how its owner learns
//! what has become of it; [`runner::Runner`] is a thread that runs jobs for others; [`pace`] decides how many may be inside;
//! [`quota::Quota`] bounds what a group may hold in all. `models.rs` tries them in every order of steps.

#[cfg(all(loom, test))]
mod models;
pub mod pace;
pub mod quota;
pub mod room;
pub mod runner;
#[cfg(all(test, not(loom)))]
mod stress;
pub mod ticket;
