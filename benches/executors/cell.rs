//! One column under one workload: a fresh server, a warm-up, and a window of a fixed number of requests in a closed
//! loop.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::executors::crowd::Crowd;
use crate::executors::tasks::Tasks;
use crate::executors::workload::{Ask, Workload};
use crate::measure::clocks::busy;
use crate::print::table::Spread;
use crate::subjects::server::{Httpd, Mpm, Server, Under};
use crate::subjects::subject::Subject;

/// The result of one cell of one round.
#[derive(Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) threads: usize,
    pub(crate) workload: Workload,
    pub(crate) round: usize,
    pub(crate) column: String,
    /// Requests answered in the window
    pub(crate) requests: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Context switches of the child, both kinds, per request
    pub(crate) switches: f64,
    /// CPU time of all threads of the child, per request
    pub(crate) cpu_us: f64,
    /// CPU time of the load generator, per request
    pub(crate) client_us: f64,
    /// CPUs that all other processes of the machine used during the window
    pub(crate) others: f64,
    /// Connections that the server closed instead of answering, per request
    pub(crate) closed: f64,
    pub(crate) libpython: Option<String>,
}

/// One figure of a cell.
pub(crate) type Figure = fn(&Cell) -> f64;

/// A row: the settings that all of its columns have in common.
pub(crate) struct Row<'a> {
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    pub(crate) workload: Workload,
    pub(crate) asks: &'a [Ask],
    pub(crate) requests: usize,
    /// The longest time of a window, however few requests were answered
    pub(crate) at_most: Duration,
}

impl Row<'_> {
    pub(crate) fn measure(
        &self,
        httpd: &Httpd,
        subject: &Subject,
        column: &str,
        round: usize,
    ) -> Result<Cell> {
        let server = httpd.start(subject, Mpm::Event(self.threads), Under::Nothing)?;
        self.window(&server, column, round)
            .with_context(|| server.log())
    }

    fn window(&self, server: &Server, column: &str, round: usize) -> Result<Cell> {
        let mut crowd = Crowd::begin(server.address(), self.connections, self.asks)?;
        crowd
            .next(Instant::now() + START)?
            .with_context(|| format!("no answer within {START:?}"))?;
        self.warm(&mut crowd)?;

        let child = server.child()?;
        let before = Tasks::of(child)?;
        let (since, of_machine, of_client) = (Instant::now(), busy()?, thread_time());
        // Responses that came while the counts were read do not count.
        let mut backlog = 0;
        while backlog < self.connections && crowd.next(Instant::now())?.is_some() {
            backlog += 1;
        }
        // A window goes from one response to another: responses to equal requests come in bursts, and the time between
        // bursts belongs to them.
        let begin = crowd
            .next(Instant::now() + self.at_most)?
            .with_context(|| format!("no answer within {:?}", self.at_most))?
            .at;
        let (client, closed) = (thread_time(), crowd.closed);
        let deadline = begin + self.at_most;
        let mut latencies = Vec::with_capacity(self.requests);
        let mut end = deadline;
        while let Some(answer) = crowd.next(deadline)? {
            latencies.push(answer.latency);
            if latencies.len() == self.requests {
                end = answer.at;
                break;
            }
        }
        let client = thread_time().saturating_sub(client);
        let spent = before.until(Tasks::of(child)?);
        let others = busy()?
            .saturating_sub(of_machine)
            .saturating_sub(spent.cpu)
            .saturating_sub(thread_time().saturating_sub(of_client));
        let others = others.as_secs_f64() / since.elapsed().as_secs_f64();
        ensure!(!latencies.is_empty(), "no answer within {:?}", self.at_most);
        latencies.sort_unstable();

        let requests = latencies.len();
        let counted = (backlog + 1 + requests) as f64;
        Ok(Cell {
            threads: self.threads,
            workload: self.workload,
            round,
            column: column.to_owned(),
            requests,
            per_second: requests as f64 / (end - begin).as_secs_f64(),
            p50_us: microseconds(quantile(&latencies, 50)),
            p99_us: microseconds(quantile(&latencies, 99)),
            switches: spent.switches as f64 / counted,
            cpu_us: microseconds(spent.cpu) / counted,
            client_us: microseconds(client) / requests as f64,
            others,
            closed: (crowd.closed - closed) as f64 / requests as f64,
            libpython: server.libpython()?,
        })
    }

    /// Runs until every connection has had a response, and the executor has had some time to adapt.
    fn warm(&self, crowd: &mut Crowd) -> Result<()> {
        let begin = Instant::now();
        let (least, most) = (begin + self.at_most.mul_f64(WARM), begin + self.at_most);
        while Instant::now() < least || (crowd.is_warming() && Instant::now() < most) {
            crowd.next(least.max(Instant::now() + TURN).min(most))?;
        }
        Ok(())
    }
}

/// Returns the value below which `part` percent of the sorted values are.
fn quantile(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() * part).div_ceil(100).max(1) - 1]
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Returns the CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The longest wait for the first response, which includes the start of Python.
const START: Duration = Duration::from_secs(60);
/// The warm-up takes at least this share of the longest window.
const WARM: f64 = 0.15;
/// The longest wait for a response in the warm-up before the clock is read again.
const TURN: Duration = Duration::from_millis(50);

/// Returns the ratio of one column to another, within each round that has both.
pub(crate) fn paired<'c>(
    cells: impl IntoIterator<Item = &'c Cell, IntoIter: Clone>,
    one: &str,
    other: &str,
    value: Figure,
) -> Option<Spread> {
    let cells = cells.into_iter();
    Spread::of(
        cells
            .clone()
            .filter(|cell| cell.column == one)
            .filter_map(|cell| {
                let partner = cells
                    .clone()
                    .find(|partner| partner.column == other && partner.round == cell.round)?;
                Some(value(cell) / value(partner))
            }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 50), Duration::from_millis(100));
        assert_eq!(quantile(&sorted, 99), Duration::from_millis(198));
        assert_eq!(quantile(&sorted[..1], 99), Duration::from_millis(1));
        assert_eq!(quantile(&sorted[..10], 99), Duration::from_millis(10));
    }
}
