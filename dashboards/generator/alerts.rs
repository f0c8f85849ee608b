//! The alerts, each with its entry in the runbook.

mod critical;
mod info;
mod warning;

use crate::parameters::Parameters;

/// The urgency of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Act now: users are affected.
    Critical,
    /// Look today.
    Warning,
    /// Look when there is time.
    Info,
}

impl Severity {
    /// Returns the value of the label.
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
    /// Name, which is also the heading in the runbook.
    pub name: &'static str,
    /// Urgency.
    pub severity: Severity,
    /// Time for which the expression must hold, in Prometheus's notation.
    pub wait: &'static str,
    /// PromQL.
    pub expr: fn(&Parameters) -> String,
    /// One line, with Prometheus's templates.
    pub summary: &'static str,
    /// One or two sentences, with Prometheus's templates.
    pub description: &'static str,
    /// Meaning of the alert.
    pub meaning: &'static str,
    /// Panels to look at, as dashboard and title, and what to look for.
    pub look: &'static [(&'static str, &'static str, &'static str)],
    /// Remedies, step by step.
    pub steps: &'static [&'static str],
}

/// Returns the alerts, the most urgent first.
pub fn alerts() -> impl Iterator<Item = &'static Alert> {
    [critical::CRITICAL, warning::WARNING, info::INFO]
        .into_iter()
        .flatten()
}

/// Returns a multiple of the error budget as PromQL that shows both factors.
fn limit(burn: f64, budget: f64) -> String {
    format!("{burn} * {budget}")
}
