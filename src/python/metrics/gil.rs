//! Starts the GIL clock ([`gil_clock`](crate::cpython::gil_clock)) with the cells that it records in.

use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_telemetry::{App, Arena, PhaseCell};

use crate::cpython::gil_clock::GilTimer;
use crate::metrics::telemetry;

/// Starts the clock for a request that the calling thread runs itself.
pub(crate) fn time(app: App, times: Option<&Times>) -> GilTimer {
    let since = times.map_or(0, |times| times.stamp.swap(0, Relaxed));
    time_since(app, since, |arena| arena.phase_cell())
}

/// Starts the clock for the request of another thread, whose phase is noted in `shown`. The calling thread has waited
/// for the GIL since `stamp`; 0 stands for now.
pub(crate) fn time_lent(app: App, stamp: u64, shown: Option<PhaseCell>) -> GilTimer {
    time_since(app, stamp, |_| shown)
}

fn time_since(app: App, stamp: u64, shown: impl FnOnce(Arena) -> Option<PhaseCell>) -> GilTimer {
    let since = if stamp == 0 { telemetry::now() } else { stamp };
    let arena = match since {
        0 => None,
        since => telemetry::arena(since),
    };
    match arena {
        Some(arena) => GilTimer::start(app, since, arena.application(app), shown(arena)),
        None => GilTimer::idle(),
    }
}
