//! Stamps: nanoseconds of the monotonic clock, which all processes of a machine share.

use rustix::time::{ClockId, clock_gettime};

/// Returns the current stamp.
#[inline]
pub fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Returns the Unix time in nanoseconds.
pub fn unix() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// Returns the Unix time in microseconds, as applications get times.
pub fn unix_microseconds() -> i64 {
    i64::try_from(unix() / 1_000).unwrap_or(i64::MAX)
}

#[inline]
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}
