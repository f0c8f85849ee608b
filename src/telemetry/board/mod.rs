//! The board: how children, the process that replaces them (the *reloader*), the parent and `wsgictl` communicate.
//!
//! ```text
//! child    enters with the revision that it will load; sets its state; sees that it must retire
//! any      asks for a roll
//! reloader takes requests, raises the revision, marks one child after the other, records the progress of the roll
//! child    finds or makes the decision about each application group: its own GIL, or the shared one
//! parent   records the plan of each application group
//! parent   frees the slots of children that it has reaped
//! any      asks a child for the stacks of its threads, and the child writes them
//! ```
//!
//! There are no locks and no waits. If a process dies in the middle of an operation, the next process takes the
//! operation over or skips it. Unprivileged processes write everything here, so readers trust nothing: an unknown state
//! counts as the harmless one, and texts are bounded and printable.
//!
//! A server that measures nothing has a board, too ([`Geometry::of_board`](crate::Geometry::of_board)).

mod children;
mod common;
mod groups;
mod hangs;
mod reloads;
mod retire;
mod roll;
mod stacks;
mod state_word;
#[cfg(test)]
mod tests;
mod whole;

pub use children::{ChildEntry, ChildSlot, ChildState};
pub use common::{Board, Warning};
pub use groups::{GroupDecision, GroupEntry, GroupSlot};
pub use hangs::Hangs;
pub use reloads::{ReloadRequest, ReloadTicket};
pub use retire::RetireReason;
pub use roll::{Roll, RollPhase};
pub use stacks::{StacksAnswer, StacksRequest, StacksTicket};
pub use whole::BoardSnapshot;
