//! Who may be inside an interpreter, who waits in line, and how a place passes from one to the next (architecture 5).
//!
//! [`room::Room`] counts those inside and keeps the line; [`ticket::Ticket`] is what stands in line and how its owner learns
//! what has become of it; [`pace`] decides how many may be inside; [`quota::Quota`] bounds what a group may hold in all.

#[cfg(all(loom, test))]
mod models;
pub mod pace;
pub mod quota;
pub mod room;
pub mod ticket;
