//! The applications' own metrics.

use crate::arena::Arena;

/// Takes back what only a living owner has.
pub(crate) fn clear_gauges(_arena: &Arena) {}
