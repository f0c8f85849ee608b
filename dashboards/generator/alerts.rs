//! The alerts, each with its entry in the runbook.

mod critical;
mod info;
mod warning;

use crate::parameters::Parameters;

/// How soon to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now: users are hurt.
    Critical,
    /// Today.
    Warning,
    /// When there is time.
    Info,
}

impl Severity {
    /// The value of the label.
    pub const fn label(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One alert.
#[derive(Debug)]
pub struct Alert {
    /// Its name, which is also its heading in the runbook.
    pub name: &'static str,
    /// How soon to look.
    pub severity: Severity,
    /// How long the expression has to hold, as Prometheus writes it.
    pub wait: &'static str,
    /// PromQL.
    pub expr: fn(&Parameters) -> String,
    /// One line, with Prometheus's templates.
    pub summary: &'static str,
    /// One or two sentences, with Prometheus's templates.
    pub description: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Which panels to look at, as dashboard and title, with what to look for.
    pub look: &'static [(&'static str, &'static str, &'static str)],
    /// What to do.
    pub steps: &'static [&'static str],
}

/// The alerts, the most urgent first.
pub fn alerts() -> impl Iterator<Item = &'static Alert> {
    [critical::CRITICAL, warning::WARNING, info::INFO]
        .into_iter()
        .flatten()
}

/// A multiple of the error budget, as PromQL that shows where it comes from.
fn limit(burn: f64, budget: f64) -> String {
    format!("{burn} * {budget}")
}
