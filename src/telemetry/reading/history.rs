//! The history: a ring of samples of all applications, taken by the parent every few seconds.
//!
//! A sample is a time and four words for each application. The time is 0 while the sample is written, and odd if the
//! sample only begins a series, because nothing is known of the time before. Only the parent writes samples. The parent
//! is root and children can write anything here, so it trusts nothing that it reads: it adds, subtracts and stores
//! numbers, and uses none of them as an address.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::catalogue::{ANSWERED, Buckets, CODE, Id, METHOD, cell, value};
use crate::clock;
use crate::reading::quantile::{count, quantile};
use crate::segment::Segment;
use crate::segment::layout::{HISTORY, HISTORY_WORDS, header};
use crate::sync::{AtomicU64, fence};

/// The requests of one application in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// Number of finished requests.
    pub requests: u64,
    /// Number of finished requests with status 5xx or without a status.
    pub errors: u64,
    /// Number of requests whose duration was measured: all that were answered.
    pub answered: u64,
    /// Sum of these durations, seconds.
    pub sum: f64,
    /// Median of these durations, seconds.
    pub p50: f64,
    /// 99th percentile of these durations, seconds.
    pub p99: f64,
}

impl Interval {
    /// Combines two intervals. The median is the weighted mean of both medians. The 99th percentile is the greater of
    /// the two, which is an upper bound of the exact one.
    pub(crate) fn and(self, other: Self) -> Self {
        let (a, b) = (self.answered as f64, other.answered as f64);
        let p50 = if a + b > 0.0 {
            (self.p50 * a + other.p50 * b) / (a + b)
        } else {
            0.0
        };
        Self {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            answered: self.answered.saturating_add(other.answered),
            sum: self.sum + other.sum,
            p50,
            p99: self.p99.max(other.p99),
        }
    }
}

/// The requests of all applications in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Unix time at which the interval ended, nanoseconds.
    pub at: u64,
    /// Length of the interval, seconds.
    pub seconds: f64,
    /// Intervals of the applications by label, without applications that had no requests.
    pub applications: BTreeMap<String, Interval>,
}

/// Least time between two samples, nanoseconds.
const LEAST: u64 = 5_000_000_000;

/// Longest accepted interval, nanoseconds. A longer one means that the clock was changed.
const LONGEST: u64 = 3_600_000_000_000;

/// Takes the samples. For the parent, which keeps it in its own memory.
#[derive(Default)]
pub struct Sampler {
    before: Option<(u64, Vec<Sums>)>,
    /// Slot of the next sample.
    next: Option<usize>,
}

/// Counters of one application, summed over all arenas.
#[derive(Clone, Default)]
struct Sums {
    requests: u64,
    errors: u64,
    buckets: [u128; BUCKETS],
    sum: u64,
}

const BUCKETS: usize = Buckets::Latency.cells() - 1;

impl Sampler {
    /// Returns a sampler that has taken no sample yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a sample, unless the last one is less than five seconds old.
    pub fn sample(&mut self, segment: &Segment) {
        self.sample_at(segment, clock::now(), clock::unix());
    }

    pub(crate) fn sample_at(&mut self, segment: &Segment, now: u64, unix: u64) {
        if let Some((at, _)) = &self.before
            && now.saturating_sub(*at) < LEAST
        {
            return;
        }
        #[cfg(feature = "faults")]
        crate::recording::breaking::all_for_dead(segment);
        let sums = segment.sums();
        let ever = segment.get(header::SAMPLES);
        let slot = *self
            .next
            .get_or_insert((ever % HISTORY as u64) as usize % HISTORY);
        let first = self.before.is_none();
        let cells = segment.sample_cells(slot);
        cells[0].store(0, Relaxed);
        fence(Release);
        if let Some((_, before)) = &self.before {
            let blocks = cells[1..].chunks(HISTORY_WORDS);
            for ((block, sums), before) in blocks.zip(&sums).zip(before) {
                for (cell, word) in block.iter().zip(sums.since(before)) {
                    cell.store(word, Relaxed);
                }
            }
        }
        cells[0].store(unix & !1 | u64::from(first), Release);
        segment.set(header::SAMPLES, (slot as u64 + 1) % HISTORY as u64);
        self.next = Some((slot + 1) % HISTORY);
        self.before = Some((now, sums));
    }
}

impl Sums {
    fn add(&mut self, block: &[AtomicU64]) {
        let word = |at: usize| block[at].load(Relaxed);
        for code in 0..CODE.values.len() {
            let is_error = code == value(CODE, "5xx") || code == value(CODE, "none");
            for method in 0..METHOD.values.len() {
                let requests = word(cell(Id::Requests, method * CODE.values.len() + code));
                self.requests = self.requests.wrapping_add(requests);
                if is_error {
                    self.errors = self.errors.wrapping_add(requests);
                }
            }
        }
        for answered in 0..ANSWERED.values.len() {
            let first = cell(Id::RequestDuration, answered);
            for (at, bucket) in self.buckets.iter_mut().enumerate() {
                *bucket += u128::from(word(first + at));
            }
            self.sum = self.sum.wrapping_add(word(first + BUCKETS));
        }
    }

    /// Returns the words of an interval. If the entry was given to another application, its counters decreased, and the
    /// interval is empty.
    fn since(&self, before: &Sums) -> [u64; HISTORY_WORDS] {
        let requests = self.requests.saturating_sub(before.requests);
        let errors = self.errors.saturating_sub(before.errors);
        let mut buckets = self.buckets;
        for (bucket, before) in buckets.iter_mut().zip(before.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        let bounds = Buckets::Latency.bounds();
        let microseconds = |q| {
            let found = quantile(&buckets, bounds, q).unwrap_or(0.0);
            (found / 1_000.0).round() as u32
        };
        [
            pair(shortened(requests), shortened(errors)),
            u64::try_from(count(&buckets)).unwrap_or(u64::MAX),
            self.sum.saturating_sub(before.sum),
            pair(microseconds(0.5), microseconds(0.99)),
        ]
    }
}

fn shortened(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn interval(words: [u64; HISTORY_WORDS]) -> Interval {
    let seconds = |microseconds: u64| microseconds as f64 / 1e6;
    Interval {
        requests: words[0] >> 32,
        errors: words[0] & 0xffff_ffff,
        answered: words[1],
        sum: words[2] as f64 / 1e9,
        p50: seconds(words[3] >> 32),
        p99: seconds(words[3] & 0xffff_ffff),
    }
}

impl Segment {
    fn sample_cells(&self, at: usize) -> &'static [AtomicU64] {
        let geometry = self.geometry();
        let words = 1 + HISTORY_WORDS * geometry.applications;
        self.words(geometry.sample(at), words)
    }

    fn sums(&self) -> Vec<Sums> {
        let geometry = self.geometry();
        let mut sums = vec![Sums::default(); geometry.applications];
        for arena in 0..geometry.arenas {
            for used in self.blocks_in_use(arena).filter(|used| used.is_touched) {
                sums[used.app].add(self.block_cells(arena, used.app));
            }
        }
        sums
    }

    /// Returns the last minutes, oldest first. Intervals with an unknown beginning are left out, so there may be gaps.
    pub fn history(&self) -> Vec<Sample> {
        let names = self.applications();
        let oldest = (self.get(header::SAMPLES) % HISTORY as u64) as usize;
        let mut began = None;
        let mut samples = Vec::new();
        for step in 0..HISTORY {
            let cells = self.sample_cells((oldest + step) % HISTORY);
            let at = cells[0].load(Acquire);
            let words: Vec<u64> = cells[1..].iter().map(|cell| cell.load(Relaxed)).collect();
            fence(Acquire);
            if at == 0 || cells[0].load(Relaxed) != at {
                began = None;
                continue;
            }
            let length = began.and_then(|began| at.checked_sub(began));
            began = Some(at);
            if at % 2 == 1 {
                continue;
            }
            let Some(length @ 1..=LONGEST) = length else {
                continue;
            };
            let mut applications: BTreeMap<String, Interval> = BTreeMap::new();
            for name in &names {
                let from = usize::from(name.app.number()) * HISTORY_WORDS;
                let Some(Ok(words)) = words.get(from..from + HISTORY_WORDS).map(TryInto::try_into)
                else {
                    continue;
                };
                let found = interval(words);
                if found != Interval::default() {
                    let sum = applications.entry(name.label.clone()).or_default();
                    *sum = sum.and(found);
                }
            }
            samples.push(Sample {
                at,
                seconds: length as f64 / 1e9,
                applications,
            });
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use crate::status::fixture::TestServer;

    #[test]
    fn intervals_hold_what_happened_in_them() {
        let mut server = TestServer::new();
        server.requests(0, 500, 10, "2xx");
        server.sample(100);
        server.requests(0, 99, 10, "2xx");
        server.requests(0, 1, 5_000, "5xx");
        server.requests(2, 3, 0, "none");
        server.sample(90);
        server.requests(1, 7, 10, "4xx");
        // Too early: no sample is taken.
        server.sample(87);
        server.sample(80);
        let history = server.segment.history();
        assert_eq!(
            history.len(),
            2,
            "what was before the first sample is nobody's"
        );
        let first = &history[0];
        assert!((first.seconds - 10.0).abs() < 1e-6);
        let shop = first.applications["/shop"];
        assert_eq!((shop.requests, shop.errors, shop.answered), (100, 1, 100));
        assert!((0.005..0.012).contains(&shop.p50), "{shop:?}");
        assert!((0.005..0.026).contains(&shop.p99), "{shop:?}");
        assert!((4.0..8.0).contains(&shop.sum), "{shop:?}");
        let api = first.applications["/api/v2"];
        assert_eq!((api.requests, api.errors, api.answered), (3, 3, 0));
        assert!(!first.applications.contains_key("/admin"));
        let second = &history[1];
        assert_eq!(second.applications["/admin"].requests, 7);
        assert_eq!(second.applications.len(), 1);
    }

    #[test]
    fn the_ring_turns_and_a_new_sampler_leaves_a_gap() {
        let mut server = TestServer::new();
        for ago in (0..100).rev() {
            server.sample(1_000 + ago * 10);
        }
        assert_eq!(server.segment.history().len(), 59);
        server.restart_sampler();
        server.requests(0, 5, 10, "2xx");
        server.sample(900);
        server.requests(0, 6, 10, "2xx");
        server.sample(890);
        let history = server.segment.history();
        assert_eq!(
            history.len(),
            57 + 1,
            "two samples were overwritten, one of them only begins"
        );
        let last = history.last().expect("samples");
        assert!((last.seconds - 10.0).abs() < 1e-6);
        assert_eq!(last.applications["/shop"].requests, 6);
    }

    #[test]
    fn an_entry_that_another_application_has_now_counts_nothing_back() {
        let mut server = TestServer::new();
        server.requests(0, 50, 10, "2xx");
        server.sample(30);
        server.clear(0);
        server.requests(0, 3, 10, "2xx");
        server.sample(20);
        server.requests(0, 4, 10, "2xx");
        server.sample(10);
        let history = server.segment.history();
        assert!(history[0].applications.is_empty());
        assert_eq!(history[1].applications["/shop"].requests, 4);
    }
}
