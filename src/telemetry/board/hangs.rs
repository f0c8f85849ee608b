//! When a child retries what hung in another child. A child with a hanging load is replaced. If the load hangs in every
//! child, each next one waits longer, so that children are not replaced all the time.

use std::time::Duration;

/// Longest wait.
const MOST: Duration = Duration::from_secs(300);
/// Number of bits of a word that hold the number of rounds.
const ROUNDS: u32 = 8;
/// Number of rounds after which the wait no longer grows, whatever the limit.
const MOST_ROUNDS: u64 = 40;

/// The record of hanging loads or starts: the number of rounds in a row, and when the last one was noticed. A round is
/// a child that began after the previous round was noticed; children that hang at the same time belong to one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hangs {
    rounds: u64,
    /// Stamp of the last round in milliseconds, rounded up.
    last: u64,
}

fn milliseconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Hangs {
    /// Unpacks the word from shared memory. Any value is accepted.
    pub fn of_word(word: u64) -> Self {
        Self {
            rounds: word & ((1 << ROUNDS) - 1),
            last: word >> ROUNDS,
        }
    }

    /// Packs the record into a word.
    pub fn word(self) -> u64 {
        self.last << ROUNDS | self.rounds
    }

    /// Returns the record with another hang, which began at `began`, took longer than `limit` and was noticed at `now`
    /// (stamps, nanoseconds).
    #[must_use]
    pub fn and(self, began: u64, now: u64, limit: Duration) -> Self {
        let (began, now) = (milliseconds(began), milliseconds(now));
        // The next try begins when the wait is over, or with a later request. After a longer pause the count starts
        // again.
        let memory = whole(self.wait(limit)) + 2 * whole(limit) + 60_000;
        let rounds = if self.rounds == 0 || now.saturating_sub(self.last) > memory {
            1
        } else if began >= self.last {
            (self.rounds + 1).min(MOST_ROUNDS)
        } else {
            return self;
        };
        Self { rounds, last: now }
    }

    /// Returns the time that a child waits before it is replaced: zero in the first round, then the limit, twice the
    /// limit, four times, and at most five minutes.
    pub fn wait(self, limit: Duration) -> Duration {
        match self.rounds {
            0 | 1 => Duration::ZERO,
            rounds => {
                let times = 1_u32 << (rounds - 2).min(16);
                limit.saturating_mul(times).min(MOST)
            }
        }
    }

    /// Returns how long from `now` on (a stamp, nanoseconds) a new child must not try to start Python: twice the limit
    /// at first, then as [`Hangs::wait`]. Zero if it may start.
    pub fn start_is_held_off(self, now: u64, limit: Duration) -> Duration {
        if self.rounds == 0 {
            return Duration::ZERO;
        }
        let wait = self.wait(limit).max(limit.saturating_mul(2).min(MOST));
        let until = self.last.saturating_add(whole(wait));
        // No process of ours writes a time far in the future.
        let left = until.saturating_sub(milliseconds(now)).min(whole(wait));
        Duration::from_millis(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn each_round_waits_longer() {
        let mut hangs = Hangs::default();
        assert_eq!(hangs.wait(LIMIT), Duration::ZERO);
        let mut now = 100 * SECOND;
        for seconds in [0, 10, 20, 40, 80, 160, 300, 300] {
            let began = now;
            now += 10 * SECOND;
            hangs = hangs.and(began, now, LIMIT);
            assert_eq!(hangs.wait(LIMIT), Duration::from_secs(seconds));
            now += seconds * SECOND;
        }
        for _ in 0..100 {
            hangs = hangs.and(now, now + SECOND, LIMIT);
            now += SECOND;
        }
        assert_eq!(hangs.wait(Duration::from_secs(86_400)), MOST);
        assert_eq!(Hangs::of_word(hangs.word()), hangs);
    }

    #[test]
    fn children_that_hang_at_the_same_time_are_one_round() {
        let hangs = Hangs::default().and(SECOND, 11 * SECOND, LIMIT);
        assert_eq!(hangs.and(2 * SECOND, 12 * SECOND, LIMIT), hangs);
        assert_eq!(
            hangs.and(11 * SECOND, 21 * SECOND, LIMIT).wait(LIMIT),
            LIMIT
        );
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let first = Hangs::default().and(SECOND, 11 * SECOND, LIMIT);
        let again = first.and(11 * SECOND, 21 * SECOND, LIMIT);
        let later = 21 * SECOND + (10 + 20 + 61) * SECOND;
        assert_eq!(
            again.and(later - 10 * SECOND, later, LIMIT).wait(LIMIT),
            Duration::ZERO
        );
    }

    #[test]
    fn a_start_is_held_off_for_a_while() {
        assert_eq!(
            Hangs::default().start_is_held_off(SECOND, LIMIT),
            Duration::ZERO
        );
        let hangs = Hangs::default().and(SECOND, 11 * SECOND, LIMIT);
        let held = |now| hangs.start_is_held_off(now * SECOND, LIMIT).as_secs();
        assert_eq!([held(11), held(21), held(31), held(99)], [20, 10, 0, 0]);
        assert_eq!(held(1), 20);
    }

    #[test]
    fn any_word_is_harmless() {
        for word in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 0xff] {
            let hangs = Hangs::of_word(word);
            assert!(hangs.wait(LIMIT) <= MOST);
            assert!(hangs.start_is_held_off(SECOND, LIMIT) <= MOST);
            let next = hangs.and(5 * SECOND, 15 * SECOND, LIMIT);
            assert!(next.wait(LIMIT) <= MOST);
        }
    }
}
