//! Whether targets are met.

use crate::print::table::Spread;

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

/// A bound for a ratio.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// Prints a ratio, and whether its median meets the target.
pub(crate) fn judge(name: &str, ratio: Option<Spread>, target: Target) -> Verdict {
    let Some(ratio) = ratio else {
        println!("{name}: not measured, that needs both.");
        return Verdict::NotMeasured;
    };
    let (met, wanted) = match target {
        Target::AtLeast(bound) => (ratio.median >= bound, format!("at least {bound}")),
        Target::AtMost(bound) => (ratio.median <= bound, format!("at most {bound}")),
    };
    println!(
        "{name}: {:.2} ({:.2} – {:.2}, paired), {wanted}: {}.",
        ratio.median,
        ratio.least,
        ratio.most,
        if met { "yes" } else { "NO" }
    );
    if met { Verdict::Met } else { Verdict::Missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_on_its_own_side_only() {
        let one = |median| {
            Some(Spread {
                least: median,
                median,
                most: median,
            })
        };
        assert_eq!(judge("", one(1.8), Target::AtLeast(1.8)), Verdict::Met);
        assert_eq!(judge("", one(1.7), Target::AtLeast(1.8)), Verdict::Missed);
        assert_eq!(judge("", one(0.4), Target::AtMost(0.5)), Verdict::Met);
        assert_eq!(judge("", one(0.6), Target::AtMost(0.5)), Verdict::Missed);
        assert_eq!(judge("", None, Target::AtMost(0.5)), Verdict::NotMeasured);
    }
}
