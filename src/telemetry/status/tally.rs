//! Sums of counters, and the [`Window`] that follows from them.

use crate::catalogue::{ANSWERED, Buckets, CODE, Id, METHOD, value};
use crate::reading::quantile::{count, quantile};
use crate::reading::{Interval, Sample};
use crate::reading::{Numbers, Snapshot};

use super::model::Window;
use super::units::whole;

/// Returns the window of all samples together.
pub(super) fn window_of(samples: &[&Sample], of: impl Fn(&Sample) -> Interval) -> Option<Window> {
    let sum = samples
        .iter()
        .map(|sample| of(sample))
        .reduce(Interval::and)?;
    let length: f64 = samples.iter().map(|sample| sample.seconds).sum();
    let answered = sum.answered > 0;
    Some(Window {
        mean_seconds: answered.then_some(sum.sum / sum.answered as f64),
        p50_seconds: answered.then_some(sum.p50),
        p99_seconds: answered.then_some(sum.p99),
        ..Window::counted(length, sum.requests, sum.errors)
    })
}

impl Window {
    fn counted(length: f64, requests: u64, errors: u64) -> Self {
        let per = |by: f64, count: u64| if by > 0.0 { count as f64 / by } else { 0.0 };
        Self {
            duration_seconds: length,
            requests,
            requests_per_second: per(length, requests),
            errors,
            error_ratio: per(requests as f64, errors).min(1.0),
            ..Self::default()
        }
    }
}

/// Counters from which a [`Window`] is made.
#[derive(Clone, Default)]
pub(super) struct Tally {
    requests: u128,
    errors: u128,
    duration: Observed,
    queue_wait: Observed,
    gil_wait: Observed,
}

/// Buckets and sum of a histogram.
#[derive(Clone, Default)]
struct Observed {
    buckets: Vec<u128>,
    sum: u128,
}

impl Observed {
    fn of(numbers: &Numbers, id: Id, series: usize) -> Self {
        let (buckets, sum) = numbers.histogram(id, series);
        Self {
            buckets: buckets.to_vec(),
            sum,
        }
    }

    fn add(&mut self, other: &Self) {
        let length = self.buckets.len().max(other.buckets.len());
        self.buckets.resize(length, 0);
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to = to.saturating_add(*from);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    fn minus(mut self, other: &Self) -> Self {
        for (from, what) in self.buckets.iter_mut().zip(&other.buckets) {
            *from = from.saturating_sub(*what);
        }
        self.sum = self.sum.saturating_sub(other.sum);
        self
    }

    fn quantile(&self, buckets: Buckets, q: f64) -> Option<f64> {
        quantile(&self.buckets, buckets.bounds(), q).map(|nanoseconds| nanoseconds / 1e9)
    }

    fn mean(&self) -> Option<f64> {
        let count = count(&self.buckets);
        (count > 0).then(|| self.sum as f64 / 1e9 / count as f64)
    }
}

impl Tally {
    pub(super) fn of(numbers: &Numbers) -> Self {
        let mut tally = Self {
            queue_wait: Observed::of(numbers, Id::QueueWait, 0),
            gil_wait: Observed::of(numbers, Id::GilWait, 0),
            ..Self::default()
        };
        for (code, requests) in (0..CODE.values.len()).map(|code| (code, of_class(numbers, code))) {
            tally.requests = tally.requests.saturating_add(requests);
            if code == value(CODE, "5xx") || code == value(CODE, "none") {
                tally.errors = tally.errors.saturating_add(requests);
            }
        }
        for series in 0..ANSWERED.values.len() {
            let observed = Observed::of(numbers, Id::RequestDuration, series);
            tally.duration.add(&observed);
        }
        tally
    }

    fn add(mut self, other: &Self) -> Self {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.duration.add(&other.duration);
        self.queue_wait.add(&other.queue_wait);
        self.gil_wait.add(&other.gil_wait);
        self
    }

    pub(super) fn minus(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            errors: self.errors.saturating_sub(other.errors),
            duration: self.duration.minus(&other.duration),
            queue_wait: self.queue_wait.minus(&other.queue_wait),
            gil_wait: self.gil_wait.minus(&other.gil_wait),
        }
    }

    pub(super) fn window(&self, length: f64) -> Window {
        Window {
            mean_seconds: self.duration.mean(),
            p50_seconds: self.duration.quantile(Buckets::Latency, 0.5),
            p99_seconds: self.duration.quantile(Buckets::Latency, 0.99),
            queue_wait_p99_seconds: self.queue_wait.quantile(Buckets::Wait, 0.99),
            gil_wait_p99_seconds: self.gil_wait.quantile(Buckets::Gil, 0.99),
            ..Window::counted(length, whole(self.requests), whole(self.errors))
        }
    }
}

pub(super) fn of_all(snapshot: &Snapshot) -> Tally {
    snapshot
        .applications
        .iter()
        .fold(Tally::default(), |sum, numbers| {
            sum.add(&Tally::of(&numbers.numbers))
        })
}

/// Returns the number of requests of a status class, of all methods.
pub(super) fn of_class(numbers: &Numbers, code: usize) -> u128 {
    (0..METHOD.values.len())
        .map(|method| numbers.counter(Id::Requests, method * CODE.values.len() + code))
        .fold(0, u128::saturating_add)
}
