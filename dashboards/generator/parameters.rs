//! The thresholds of alerts and panels.

/// Parameters of rules and dashboards.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The job under which Prometheus scrapes the servers.
    pub job: String,
    /// Address of the runbook, or the name of the file beside the rules.
    pub runbook: String,
    /// The share of requests that may fail over the long run.
    pub error_budget: f64,
    /// Burn rate that is an emergency, as a multiple of the error budget (two days to the end of a month's budget).
    pub fast_burn: f64,
    /// Burn rate that is worth a ticket, as a multiple of the error budget (five days).
    pub slow_burn: f64,
    /// Longest acceptable 99th percentile of the duration, in seconds.
    pub latency: f64,
    /// Least requests per second at which latencies are judged: with fewer, one slow request would be the slowest
    /// hundredth.
    pub latency_rate: f64,
    /// The share of workers that may be busy.
    pub saturation: f64,
    /// Longest acceptable 95th percentile of the time before a request reaches Python, in seconds.
    pub queue_wait: f64,
    /// Age in seconds from which a running request counts as stuck.
    pub stuck: f64,
    /// The share of request time that may be spent waiting for the GIL.
    pub gil_share: f64,
    /// Number of children that may be killed within 15 minutes.
    pub killed: u32,
    /// Number of interpreters of one application that may start within 15 minutes, as a multiple of `ServerLimit`.
    pub restarts: u32,
    /// Factor by which the largest child may be expected to grow within a day.
    pub growth: f64,
    /// Longest acceptable 99th percentile of full garbage collections, in seconds.
    pub gc_pause: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            job: "wsgi".into(),
            runbook: "runbook.md".into(),
            error_budget: 0.001,
            fast_burn: 14.4,
            slow_burn: 6.0,
            latency: 2.0,
            latency_rate: 0.1,
            saturation: 0.9,
            queue_wait: 0.5,
            stuck: 300.0,
            gil_share: 0.3,
            killed: 2,
            restarts: 3,
            growth: 2.0,
            gc_pause: 0.25,
        }
    }
}

impl Parameters {
    /// Returns the address of an entry of the runbook.
    pub fn runbook_entry(&self, heading: &str) -> String {
        format!(
            "{}#{}",
            self.runbook,
            heading.to_lowercase().replace(' ', "-")
        )
    }
}
