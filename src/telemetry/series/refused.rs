//! Reasons to refuse a metric.

use std::fmt;

/// Most upper bounds of a histogram.
pub const MOST_BOUNDS: usize = 20;
/// Most labels of a family.
pub const MOST_LABELS: usize = 8;

/// Why a metric of an application is refused. Variants hold the name in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Prometheus would not accept the name of the metric.
    Name(String),
    /// The name has the prefix of the server's own metrics.
    Reserved(String),
    /// Prometheus would not accept the name of a label, or reserves it.
    Label(String),
    /// The same label appears twice.
    LabelTwice(String),
    /// There are too many labels, or their names are too long together.
    TooManyLabels(String),
    /// The upper bounds are too many, not ascending, or not finite.
    Bounds(String),
    /// A metric of this name exists with another type, or with other labels or bounds.
    Different(String),
    /// The samples would have the names of those of this other metric.
    Clash(String, String),
    /// The numbers of values and labels differ.
    Values(String),
    /// Metrics of this type cannot be kept.
    Kind(String),
    /// The metric has no sample of this name.
    Sample(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Name(name) => write!(
                f,
                "{name:?} is no name of a metric: at most 118 of the characters a to z, A to Z, 0 to 9, _ and :, no \
                 digit first"
            ),
            Refused::Reserved(name) => {
                write!(
                    f,
                    "{name:?}: names that begin with \"wsgi_\" are the server's"
                )
            }
            Refused::Label(name) => {
                write!(f, "{name:?} is no name of a label that a metric may have")
            }
            Refused::LabelTwice(name) => write!(f, "the label {name:?} is there twice"),
            Refused::TooManyLabels(name) => write!(
                f,
                "{name:?} has too many labels, or too long names of them: there is room for {MOST_LABELS}, and for \
                 128 characters in all"
            ),
            Refused::Bounds(name) => write!(
                f,
                "the upper bounds of {name:?} must be at most {MOST_BOUNDS} ascending, finite numbers"
            ),
            Refused::Different(name) => write!(
                f,
                "there is a metric {name:?} already, of another kind or with other labels or bounds"
            ),
            Refused::Clash(name, other) => {
                write!(
                    f,
                    "the samples of {name:?} would be called as those of {other:?}"
                )
            }
            Refused::Values(name) => {
                write!(f, "{name:?} needs as many label values as it has labels")
            }
            Refused::Kind(kind) => write!(f, "metrics of the type {kind:?} cannot be kept"),
            Refused::Sample(name) => write!(f, "there is no sample called {name:?}"),
        }
    }
}

impl std::error::Error for Refused {}
