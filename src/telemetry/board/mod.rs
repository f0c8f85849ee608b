//! The board: what children, the process that replaces them (the *reloader*), the parent and `wsgictl` tell each other.
//!
//! ```text
//! child    enters with the revision that it is about to load; says whether it is ready; sees that it must retire
//! any      asks for a roll
//! reloader takes requests, raises the revision, marks one child after the other, says how the roll goes
//! child    finds or makes the decision about each application group: a GIL of its own, or a shared one
//! parent   says what is planned for each application group
//! parent   frees the places of children that it has reaped
//! any      asks a child for the stacks of its threads, and the child writes them
//! ```
//!
//! There are no locks and no waits. A process that dies in the middle of something leaves what the next one may take over
//! or pass by. Everything here is written by unprivileged processes, so nothing is trusted: states that do not exist
//! count as the harmless one, texts are bounded and printable.
//!
//! It is also there where nothing is measured ([`Geometry::of_board`](crate::Geometry::of_board)).

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
