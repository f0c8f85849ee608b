//! The samples of Python's `prometheus_client`, which asks for its values one by one.

use crate::segment::Owner;
use crate::segment::Segment;

use super::cells::Series;
use super::family::{Aggregate, CustomKind, Description};
use super::refused::Refused;
use super::table::Part;

/// A value that `prometheus_client` asks to keep.
#[derive(Clone, Copy, Debug)]
pub struct ClientValue<'a> {
    /// Type of the metric: `counter`, `gauge`, `histogram`, `summary`, `info`, `stateset` or `unknown`.
    pub kind: &'a str,
    /// Name of the metric.
    pub metric: &'a str,
    /// Name of the sample: that of the metric, with or without `_total`, `_bucket`, `_sum`, `_count` or `_created`.
    pub sample: &'a str,
    /// Names of the labels; for a bucket including `le`.
    pub labels: &'a [&'a str],
    /// Values of the labels.
    pub values: &'a [&'a str],
    /// Text of the `HELP` line.
    pub help: &'a str,
    /// `multiprocess_mode` of a gauge; empty for other metrics. Only living children are shown, so `sum` and `livesum`
    /// are the same. Values of single children are not shown: `all` is their sum. `mostrecent` is their maximum, since
    /// no times are kept.
    pub mode: &'a str,
}

impl Segment {
    /// Returns the series of such a value. Times of creation are not kept: they belong to the child, not to the
    /// counter.
    ///
    /// # Errors
    /// Those of [`Segment::custom_family`] and [`Segment::custom_series`].
    pub fn client_series(&self, value: &ClientValue<'_>, owner: Owner) -> Result<Series, Refused> {
        let unknown = || Refused::Sample(value.sample.to_owned());
        let suffix = value.sample.strip_prefix(value.metric);
        let suffix = suffix.ok_or_else(unknown)?;
        let kind = kind_of(value.kind, value.mode)?;
        if value.labels.len() != value.values.len() {
            return Err(Refused::Values(value.metric.to_owned()));
        }
        let mut labels: Vec<&str> = value.labels.to_vec();
        let mut values: Vec<&str> = value.values.to_vec();
        let mut name = value.metric;
        let part = match (&kind, suffix) {
            (CustomKind::Gauge(_), _) => {
                name = value.sample;
                Part::Value
            }
            (_, "_created") => return Ok(Series::NOWHERE),
            (CustomKind::Counter, "" | "_total") => Part::Value,
            (CustomKind::Histogram(_) | CustomKind::Summary, "_sum") => Part::Sum,
            (CustomKind::Summary, "_count") => Part::Count,
            (CustomKind::Histogram(_), "_bucket") => {
                let at = labels.iter().position(|&label| label == "le");
                let at = at.ok_or_else(unknown)?;
                labels.remove(at);
                let bound = values.remove(at).parse().map_err(|_| unknown())?;
                Part::Bucket(bound)
            }
            _ => return Err(unknown()),
        };
        let description = Description {
            name: name.to_owned(),
            kind,
            labels: labels.into_iter().map(str::to_owned).collect(),
            help: value.help.to_owned(),
        };
        let family = self.custom_family(&description, owner)?;
        self.custom_series(family, part, &values, owner)
    }
}

fn kind_of(kind: &str, mode: &str) -> Result<CustomKind, Refused> {
    Ok(match kind {
        "counter" => CustomKind::Counter,
        "gauge" | "unknown" | "untyped" => CustomKind::Gauge(match mode {
            "min" | "livemin" => Aggregate::Min,
            "max" | "livemax" | "mostrecent" | "livemostrecent" => Aggregate::Max,
            _ => Aggregate::Sum,
        }),
        // Every child has the same value, so the maximum is that value.
        "info" | "stateset" | "enum" => CustomKind::Gauge(Aggregate::Max),
        "histogram" => CustomKind::Histogram(Vec::new()),
        "summary" => CustomKind::Summary,
        other => return Err(Refused::Kind(other.to_owned())),
    })
}
