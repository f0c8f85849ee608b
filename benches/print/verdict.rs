//! Whether targets are met.

/// Whether the target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    /// Met only if all verdicts are met.
    pub(crate) fn of_all(verdicts: &[Self]) -> Self {
        match verdicts {
            [] => Self::NotMeasured,
            _ if verdicts.contains(&Self::Missed) => Self::Missed,
            _ if verdicts.contains(&Self::NotMeasured) => Self::NotMeasured,
            _ => Self::Met,
        }
    }
}
