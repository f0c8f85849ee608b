//! CPU time per request of the server's children, with throughput and latency, in alternating runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::load::{self, Load};
use crate::server::{EVENT_THREADS, Httpd, Mpm, Server, Under, stat_fields};
use crate::subject::{Subject, Who};

/// One run of one subject.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) mpm: Mpm,
    pub(crate) round: usize,
    pub(crate) who: Who,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) libpython: Option<String>,
}

/// Both MPMs, one connection under prefork and several under event.
pub(crate) fn measure(
    httpd: &Httpd,
    subjects: &[Subject],
    rounds: usize,
    requests: usize,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (mpm, connections) in [
        (Mpm::Prefork, 1),
        (Mpm::Event(EVENT_THREADS), EVENT_CONNECTIONS),
    ] {
        eprintln!("wsgi-bench: {rounds} rounds of CPU time under {mpm:?}");
        runs.extend(alternate(
            httpd,
            subjects,
            mpm,
            connections,
            rounds,
            requests,
        )?);
    }
    Ok(runs)
}

/// Every round runs each subject once, in a fresh server, beginning with another one than the round before.
pub(crate) fn alternate(
    httpd: &Httpd,
    subjects: &[Subject],
    mpm: Mpm,
    connections: usize,
    rounds: usize,
    requests: usize,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut failed = Vec::new();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let subject = &subjects[(round + turn) % subjects.len()];
            if failed.contains(&subject.who) {
                continue;
            }
            let run = httpd
                .start(subject, mpm, Under::Nothing)
                .and_then(|server| {
                    one(&server, mpm, round, subject.who, connections, requests)
                        .with_context(|| server.log())
                });
            match run {
                Ok(run) => runs.push(run),
                Err(failure) => failed.push(subject.left_out(&failure)?),
            }
        }
    }
    Ok(runs)
}

fn one(
    server: &Server,
    mpm: Mpm,
    round: usize,
    who: Who,
    connections: usize,
    requests: usize,
) -> Result<Run> {
    let requests = requests / connections * connections;
    let mut before = Clocks::default();
    let Load { wall, latencies } = load::run(
        server.address(),
        connections,
        WARM.min(requests / 4) / connections,
        requests,
        || {
            before = Clocks::of(server.child()?)?;
            Ok(())
        },
    )?;
    let after = Clocks::of(server.child()?)?;
    let each = |from: Duration, to: Duration| {
        to.saturating_sub(from).as_secs_f64() * 1e6 / requests as f64
    };
    let quantile = |part: usize| {
        latencies[(latencies.len() * part / 100).min(latencies.len() - 1)].as_secs_f64() * 1e6
    };
    Ok(Run {
        mpm,
        round,
        who,
        connections,
        requests,
        cpu_us: each(before.cpu, after.cpu),
        user_us: each(before.user, after.user),
        system_us: each(before.system, after.system),
        per_second: requests as f64 / wall.as_secs_f64(),
        p50_us: quantile(50),
        p99_us: quantile(99),
        libpython: server.libpython()?,
    })
}

/// What the kernel has counted for a process.
#[derive(Default)]
struct Clocks {
    /// Exact, to the nanosecond
    cpu: Duration,
    /// Sampled at ticks: good for a share, not for a difference of a few percent
    user: Duration,
    system: Duration,
}

impl Clocks {
    fn of(pid: u32) -> Result<Self> {
        let mut cpu = Duration::ZERO;
        // The file of the process counts its first thread only.
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let nanoseconds = text
                .split_whitespace()
                .next()
                .and_then(|field| field.parse().ok());
            cpu += Duration::from_nanos(nanoseconds.with_context(|| path.display().to_string())?);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat_fields(&stat);
        let ticks =
            |field: usize| -> Result<Duration> {
                let ticks: u64 = fields
                    .get(field)
                    .context("a short /proc/PID/stat")?
                    .parse()?;
                Ok(Duration::from_secs(ticks)
                    / u32::try_from(rustix::param::clock_ticks_per_second())?)
            };
        Ok(Self {
            cpu,
            user: ticks(USER)?,
            system: ticks(SYSTEM)?,
        })
    }
}

/// Fewer than the child's threads, so that none waits for a thread.
pub(crate) const EVENT_CONNECTIONS: usize = 16;
/// Most requests before the clocks are read.
const WARM: usize = 800;
/// Fields of `/proc/PID/stat`, counted from the state.
const USER: usize = 11;
const SYSTEM: usize = 12;
