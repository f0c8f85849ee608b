//! The thresholds, in one place.

/// What rules and dashboards are made for.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The job under which Prometheus scrapes the servers.
    pub job: String,
    /// Where the runbook is read: an address, or the file beside the rules.
    pub runbook: String,
    /// The share of requests that may fail over the long run.
    pub error_budget: f64,
    /// How many times faster than that is an emergency (two days to the end of a month's budget).
    pub fast_burn: f64,
    /// How many times faster than that is worth a ticket (five days).
    pub slow_burn: f64,
    /// The slowest hundredth of requests may take this long, in seconds.
    pub latency: f64,
    /// Below this many requests per second latencies are not judged: one slow request would be the slowest hundredth.
    pub latency_rate: f64,
    /// The share of workers that may be busy.
    pub saturation: f64,
    /// Seconds that the slowest twentieth may spend before they come to Python.
    pub queue_wait: f64,
    /// Seconds after which a running request counts as stuck.
    pub stuck: f64,
    /// The share of request time that may be spent waiting for the GIL.
    pub gil_share: f64,
    /// How many children may be killed in a quarter of an hour.
    pub killed: u32,
    /// How many times `ServerLimit` interpreters of one application may start in a quarter of an hour.
    pub restarts: u32,
    /// By what factor the largest child may be expected to grow within a day.
    pub growth: f64,
    /// Seconds that the slowest hundredth of full garbage collections may take.
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
    /// The address of an entry of the runbook.
    pub fn runbook_entry(&self, heading: &str) -> String {
        format!(
            "{}#{}",
            self.runbook,
            heading.to_lowercase().replace(' ', "-")
        )
    }
}
