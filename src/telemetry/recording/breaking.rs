//! Where a rule of the segment is broken on purpose (`faults.rs`).

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread;
use std::time::Duration;

use crate::faults::{Fault, is};
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::{Role, state};

/// The arena that everybody gets.
pub(crate) fn crowded(role: Role) -> Option<u32> {
    (role == Role::Thread && is(Fault::Crowded)).then_some(1)
}

/// An arena was taken.
pub(crate) fn taken(segment: &Segment, at: usize) {
    if is(Fault::Zeroed) {
        let geometry = segment.geometry();
        for cell in segment.words(geometry.arena(at), geometry.arena_words()) {
            cell.store(0, Relaxed);
        }
    }
}

/// This process is something else now.
pub(crate) fn role_set(segment: &Segment, owner: Owner, role: Role) {
    if role == Role::Draining && is(Fault::FreedByChild) {
        segment.free_arenas_of(owner.pid);
    }
}

/// A child is about to be killed or reaped. For the parent.
pub fn before_reaping(segment: &Segment, pid: u32) {
    if is(Fault::FreedEarly) {
        segment.free_arenas_of(pid);
        // Long enough for another child to begin, and to take them.
        thread::sleep(Duration::from_millis(50));
    }
}

/// The parent looks after its children, as it does every few seconds, or has begun another configuration: here it takes
/// all of them for dead.
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
