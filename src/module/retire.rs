//! A child that asks to be replaced, as something in it does not come back: by the one mechanism that there is for that, it
//! marks itself to retire.

use wsgi_abi::Retire;
use wsgi_telemetry::board::{ChildEntry, ChildState, RetireReason};

use crate::place::{self, Place};

/// Of so many children that serve, one may be replaced at a time.
const SHARE: usize = 4;

/// Marks this child, unless enough others retire; then it is to be asked again.
pub(crate) fn ask(why: Retire) {
    let reason = match why {
        Retire::Stuck => RetireReason::RequestTimeout,
        Retire::Deadlock => RetireReason::Deadlock,
    };
    if let Some(place) = place::get() {
        mark(&place, reason);
    }
}

/// Whether this child was marked just now.
pub(crate) fn mark(place: &Place, reason: RetireReason) -> bool {
    if place.slot().retire().is_some() || are_enough(place) {
        return false;
    }
    let me = place.in_force.me();
    if !place.board().mark(me.pid, me.ticks, reason) {
        return false;
    }
    // Others may have marked themselves since they were looked at; then the one with the lowest number goes first.
    let goes_first = |child: &ChildEntry| child.retire.is_some() && child.pid < me.pid;
    let is_one_too_many = are_enough(place) && place.others().iter().any(goes_first);
    if is_one_too_many {
        place.slot().unmark(reason);
    }
    !is_one_too_many
}

/// Whether as many others retire as may at a time.
fn are_enough(place: &Place) -> bool {
    let others = place.others();
    let serving = others
        .iter()
        .filter(|child| child.state == ChildState::Ready);
    let retiring = serving
        .clone()
        .filter(|child| child.retire.is_some())
        .count();
    retiring >= (serving.count() / SHARE).max(1)
}
