//! The work that each request makes the application do, and the sequence of the requests.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use crate::subjects::load;
use crate::subjects::server::SPIN;

/// A row of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Nothing: hello-world
    Hello,
    /// 20 µs of processor
    #[value(name = "20us")]
    Spin20us,
    /// 400 µs of processor
    #[value(name = "400us")]
    Spin400us,
    /// 5 ms of processor
    #[value(name = "5ms")]
    Spin5ms,
    /// 1 ms of processor, then 5 ms of sleep
    Io,
    /// 100 ms of sleep
    Sleep,
    /// 95 % of 0.5 ms and 5 % of 50 ms of processor
    Mix,
}

/// The work of one kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    spin: Duration,
    sleep: Duration,
}

/// One kind of request, as the clients send it.
pub(crate) struct Ask {
    pub(crate) request: String,
    /// The body of the correct response
    pub(crate) body: String,
    /// The shortest latency of a correct response
    pub(crate) at_least: Duration,
}

/// How many times the application's loop runs in a second of CPU time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pace(f64);

impl Workload {
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Hello => "hello-world",
            Self::Spin20us => "20 µs of processor",
            Self::Spin400us => "400 µs of processor",
            Self::Spin5ms => "5 ms of processor",
            Self::Io => "1 ms of processor, then 5 ms of sleep",
            Self::Sleep => "100 ms of sleep",
            Self::Mix => "95 % of 0.5 ms and 5 % of 50 ms of processor",
        }
    }

    /// Returns the work of the usual kind of request, and of the rare kind if there is one.
    const fn orders(self) -> (Order, Option<Order>) {
        match self {
            Self::Hello => (Order::of(0, 0), None),
            Self::Spin20us => (Order::of(20, 0), None),
            Self::Spin400us => (Order::of(400, 0), None),
            Self::Spin5ms => (Order::of(5_000, 0), None),
            Self::Io => (Order::of(1_000, 5), None),
            Self::Sleep => (Order::of(0, 100), None),
            Self::Mix => (Order::of(500, 0), Some(Order::of(50_000, 0))),
        }
    }

    /// Returns the requests that the clients send: the usual one, and the rare one if there is one.
    pub(crate) fn asks(self, pace: Pace) -> Vec<Ask> {
        let (usual, rare) = self.orders();
        std::iter::once(usual)
            .chain(rare)
            .map(|order| order.ask(pace))
            .collect()
    }

    /// Returns the number of requests that keep the fastest server busy for `seconds`. It is a multiple of
    /// `connections`, because responses to equal requests come in bursts of that size.
    pub(crate) fn requests(self, connections: usize, seconds: f64) -> usize {
        let (usual, rare) = self.orders();
        let rare_share = if rare.is_some() {
            1.0 / BLOCK as f64
        } else {
            0.0
        };
        let mean = |part: fn(Order) -> Duration| {
            part(usual).as_secs_f64() * (1.0 - rare_share)
                + rare.map_or(0.0, |rare| part(rare).as_secs_f64() * rare_share)
        };
        let (spin, sleep) = (mean(|order| order.spin), mean(|order| order.sleep));
        let by_processor = 1.0 / (spin + OVERHEAD.as_secs_f64());
        let by_connections = connections as f64 / (spin + sleep + OVERHEAD.as_secs_f64());
        let wanted = by_processor.min(by_connections) * seconds * self.patience();
        let bursts = (wanted / connections as f64).ceil().max(2.0);
        bursts as usize * connections
    }

    /// Returns the factor by which the measurement of this workload takes longer than usual. In a longer measurement it
    /// matters less which of the long requests are running when it begins and ends.
    pub(crate) const fn patience(self) -> f64 {
        if matches!(self, Self::Mix) { 2.0 } else { 1.0 }
    }
}

impl Order {
    const fn of(microseconds_of_processor: u64, milliseconds_of_sleep: u64) -> Self {
        Self {
            spin: Duration::from_micros(microseconds_of_processor),
            sleep: Duration::from_millis(milliseconds_of_sleep),
        }
    }

    fn ask(self, pace: Pace) -> Ask {
        let turns = (self.spin.as_secs_f64() * pace.0).round() as u64;
        let target = if self.sleep.is_zero() {
            format!("/spin?{turns}")
        } else {
            format!("/spin?{turns}&{}", self.sleep.as_secs_f64())
        };
        Ask {
            request: load::request(&target),
            body: format!("{}\n", spin(turns)),
            at_least: self.sleep,
        }
    }
}

/// Computes the loop of `spin.wsgi`.
fn spin(turns: u64) -> u64 {
    (0..turns).fold(1, |value, _| (value * 1_103_515_245 + 12_345) & 0x7FFF_FFFF)
}

/// Returns the kind of the request with this number: 0 for the usual kind, 1 for the rare one. Numbers count from the
/// first request of the warm-up. One request in each block of twenty is rare; its position is pseudo-random, and the
/// same in every run.
pub(crate) fn kind(number: u64, kinds: usize) -> usize {
    let (block, place) = (number / BLOCK, number % BLOCK);
    // This is the finalizer of splitmix64.
    let mut mixed = block.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    usize::from(kinds > 1 && mixed % BLOCK == place)
}

impl Pace {
    /// Times the loop of `spin.wsgi` in `python` with the CPU clock of the thread.
    pub(crate) fn measure(python: &Path) -> Result<Self> {
        let mut process = Command::new(python)
            .args(["-I", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let program = format!("{SPIN}{CALIBRATION}");
        process
            .stdin
            .take()
            .context("no pipe to Python")?
            .write_all(program.as_bytes())?;
        let output = process.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{} cannot time spin.wsgi: {}",
            python.display(),
            output.status
        );
        let text = String::from_utf8(output.stdout)?;
        let nanoseconds: f64 = text
            .trim()
            .parse()
            .with_context(|| format!("no time of a turn: {text:?}"))?;
        ensure!(nanoseconds > 0.0, "a turn took no time: {text:?}");
        Ok(Self(1e9 / nanoseconds))
    }

    pub(crate) fn nanoseconds_per_turn(self) -> f64 {
        1e9 / self.0
    }
}

/// Prints the nanoseconds of one run of the loop: the least of many samples of about a millisecond. On a busy machine
/// the loop uses more CPU time if two threads share a core or its caches.
const CALIBRATION: &str = r"
from time import thread_time_ns
def sample():
    begin = thread_time_ns()
    spin(20_000)
    return (thread_time_ns() - begin) / 20_000
print(min(sample() for _ in range(400)))
";

/// One of this many requests is rare.
const BLOCK: u64 = 20;
/// Roughly the time that a request needs besides its work.
const OVERHEAD: Duration = Duration::from_micros(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_twenty_is_rare_and_not_at_equal_distances() {
        let rare: Vec<u64> = (0..2_000).filter(|&number| kind(number, 2) == 1).collect();
        assert_eq!(rare.len(), 100);
        let mut distances: Vec<u64> = rare.windows(2).map(|pair| pair[1] - pair[0]).collect();
        distances.sort_unstable();
        distances.dedup();
        assert!(distances.len() > 10, "{distances:?}");
        assert!((0..100).all(|number| kind(number, 1) == 0));
    }

    #[test]
    fn the_loop_is_that_of_the_other_application() {
        // work.wsgi compares its own result with this value.
        assert_eq!(spin(60_000), 351_997_601);
    }

    #[test]
    fn an_order_becomes_turns_and_seconds() {
        let pace = Pace(1e7);
        let asks = Workload::Io.asks(pace);
        assert!(
            asks[0]
                .request
                .starts_with("GET /spin?10000&0.005 HTTP/1.1\r\nHost: ")
        );
        assert_eq!(asks[0].at_least, Duration::from_millis(5));
        let asks = Workload::Mix.asks(pace);
        assert!(asks[1].request.starts_with("GET /spin?500000 HTTP/1.1\r\n"));
    }

    #[test]
    fn requests_fill_the_time_in_whole_bursts() {
        // 25 requests at a time, each a tenth of a second.
        assert_eq!(Workload::Sleep.requests(25, 2.0), 500);
        // 5 ms each, one at a time.
        assert_eq!(Workload::Spin5ms.requests(64, 1.6), 320);
        assert_eq!(Workload::Spin5ms.requests(64, 0.1), 128);
    }
}
