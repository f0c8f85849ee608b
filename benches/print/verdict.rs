//! Whether targets are met.

/// Whether the target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    /// Returns `Met` if there are verdicts and all of them are `Met`.
    pub(crate) fn of_all(verdicts: &[Self]) -> Self {
        match verdicts {
            [] => Self::NotMeasured,
            _ if verdicts.contains(&Self::Missed) => Self::Missed,
            _ if verdicts.contains(&Self::NotMeasured) => Self::NotMeasured,
            _ => Self::Met,
        }
    }
}
