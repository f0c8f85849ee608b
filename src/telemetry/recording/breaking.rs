//! The places where a rule of the segment is broken on purpose (`faults.rs`).

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread;
use std::time::Duration;

use crate::faults::{Fault, is};
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::{Role, state};

/// Returns the arena that all threads share under [`Fault::Crowded`].
pub(crate) fn crowded(role: Role) -> Option<u32> {
    (role == Role::Thread && is(Fault::Crowded)).then_some(1)
}

/// Called when an arena was taken.
pub(crate) fn taken(segment: &Segment, at: usize) {
    if is(Fault::Zeroed) {
        let geometry = segment.geometry();
        for cell in segment.words(geometry.arena(at), geometry.arena_words()) {
            cell.store(0, Relaxed);
        }
    }
}

/// Called when the role of this process changed.
pub(crate) fn role_set(segment: &Segment, owner: Owner, role: Role) {
    if role == Role::Draining && is(Fault::FreedByChild) {
        segment.free_arenas_of(owner.pid);
    }
}

/// Called when a child is about to be killed or reaped. For the parent.
pub fn before_reaping(segment: &Segment, pid: u32) {
    if is(Fault::FreedEarly) {
        segment.free_arenas_of(pid);
        // Long enough for another child to start and take the arenas.
        thread::sleep(Duration::from_millis(50));
    }
}

/// Called when the parent begins another configuration or checks its children, as it does every few seconds. Takes all
/// children for dead.
pub(crate) fn all_for_dead(segment: &Segment) {
    if is(Fault::FreedEarly) {
        for at in 1..segment.geometry().arenas {
            let owner = segment.entry_cells(at)[state::OWNER].load(Acquire);
            if owner != 0 {
                segment.free_arenas_of(Owner::pid_of(owner));
            }
        }
    }
}
