//! The lines of an exposition, in either format.
//!
//! Prometheus's text format uses the functions of `metrics-exporter-prometheus`. OpenMetrics differs in family names,
//! types and the last line, and is written here.

use std::fmt::{self, Display, Write};

use metrics::{Key, Label};
use metrics_exporter_prometheus::{LabelSet, formatting};

use super::negotiate::Format;

/// Type of a family on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// Always 1; the information is in the labels.
    Info,
}

impl Type {
    /// Returns what the name of a plain sample has after the name of the family.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram | Type::Summary => "",
        }
    }

    const fn text(self, format: Format) -> &'static str {
        match (self, format) {
            (Type::Counter, _) => "counter",
            (Type::Info, Format::OpenMetrics) => "info",
            (Type::Gauge, _) | (Type::Info, Format::Text) => "gauge",
            (Type::Histogram, _) => "histogram",
            (Type::Summary, _) => "summary",
        }
    }
}

/// The page that is being written.
pub(crate) struct Page<'a> {
    format: Format,
    out: &'a mut String,
}

/// Labels, prepared to be written many times.
pub(crate) enum Labels {
    Text(LabelSet),
    OpenMetrics(String),
}

impl<'a> Page<'a> {
    pub(crate) fn new(format: Format, out: &'a mut String) -> Self {
        Self { format, out }
    }

    /// Starts a family. `name` is without the suffix of its type.
    pub(crate) fn family<'p>(
        &'p mut self,
        name: &'p str,
        kind: Type,
        help: &'p str,
    ) -> FamilyLines<'p, 'a> {
        FamilyLines {
            page: self,
            name,
            kind,
            help,
            begun: false,
        }
    }

    /// Ends the page.
    pub(crate) fn end(self) {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
    }
}

/// A family that is being written. Its head is written with its first sample, so that no family is without samples.
pub(crate) struct FamilyLines<'p, 'a> {
    page: &'p mut Page<'a>,
    name: &'p str,
    kind: Type,
    help: &'p str,
    begun: bool,
}

impl FamilyLines<'_, '_> {
    /// Prepares labels for samples of this page. Their names must be valid.
    pub(crate) fn labels<'l>(&self, labels: impl Iterator<Item = (&'l str, &'l str)>) -> Labels {
        match self.page.format {
            Format::Text => {
                // The crate takes two backslashes for an escaped one, and leaves a single one as it is.
                let twice = |value: &str| value.replace('\\', "\\\\");
                let labels: Vec<Label> = labels
                    .map(|(name, value)| Label::new(name.to_owned(), twice(value)))
                    .collect();
                let key = Key::from_parts("", labels);
                Labels::Text(LabelSet::from_key_and_global(&key, &Default::default()))
            }
            Format::OpenMetrics => {
                let mut text = String::new();
                for (name, value) in labels {
                    if !text.is_empty() {
                        text.push(',');
                    }
                    text.push_str(name);
                    text.push_str("=\"");
                    escape(&mut text, value);
                    text.push('"');
                }
                Labels::OpenMetrics(text)
            }
        }
    }

    /// Writes a sample whose name has only the suffix of the type.
    pub(crate) fn sample(&mut self, labels: &Labels, value: impl Display) {
        self.line(self.kind.suffix(), labels, None, value);
    }

    /// Writes the samples of one histogram. `buckets` are not cumulative, and there is one more of them than `bounds`.
    pub(crate) fn histogram<'l>(
        &mut self,
        labels: &Labels,
        bounds: impl Iterator<Item = &'l str>,
        buckets: impl Iterator<Item = impl Into<Count>>,
        sum: impl Display,
    ) {
        let mut so_far = Count::Whole(0);
        for (bound, bucket) in bounds.chain(["+Inf"]).zip(buckets) {
            so_far = so_far.plus(bucket.into());
            self.line("_bucket", labels, Some(bound), so_far);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, so_far);
    }

    /// Writes one line.
    pub(crate) fn line(
        &mut self,
        suffix: &str,
        labels: &Labels,
        bound: Option<&str>,
        value: impl Display,
    ) {
        if !self.begun {
            self.begun = true;
            self.head();
        }
        let out = &mut *self.page.out;
        match labels {
            Labels::Text(labels) => {
                // The suffix is passed as part of the name: the crate leaves it out if the name ends with the same
                // word.
                let name = format!("{}{suffix}", self.name);
                let bound = bound.map(|bound| ("le", bound));
                formatting::write_metric_line(out, &name, None, labels, bound, value, None);
            }
            Labels::OpenMetrics(labels) => {
                out.push_str(self.name);
                out.push_str(suffix);
                // Writing to a string does not fail.
                let _ = match (labels.is_empty(), bound) {
                    (true, None) => writeln!(out, " {value}"),
                    (true, Some(bound)) => writeln!(out, "{{le=\"{bound}\"}} {value}"),
                    (false, None) => writeln!(out, "{{{labels}}} {value}"),
                    (false, Some(bound)) => writeln!(out, "{{{labels},le=\"{bound}\"}} {value}"),
                };
            }
        }
    }

    fn head(&mut self) {
        let out = &mut *self.page.out;
        let kind = self.kind.text(self.page.format);
        match self.page.format {
            Format::Text => {
                let name = format!("{}{}", self.name, self.kind.suffix());
                let help = self.help.replace('\\', "\\\\");
                formatting::write_help_line(out, &name, None, None, &help);
                formatting::write_type_line(out, &name, None, None, kind);
            }
            Format::OpenMetrics => {
                let name = self.name;
                let _ = write!(out, "# TYPE {name} {kind}\n# HELP {name} ");
                escape(out, self.help);
                out.push('\n');
            }
        }
    }
}

/// Escapes a label value or a help for OpenMetrics.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// A number of observations. The applications' own histograms count in floats.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Whole(u128),
    Real(f64),
}

impl Count {
    fn plus(self, other: Count) -> Count {
        match (self, other) {
            (Count::Whole(a), Count::Whole(b)) => Count::Whole(a + b),
            (a, b) => Count::Real(a.real() + b.real()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Count::Whole(count) => count as f64,
            Count::Real(count) => count,
        }
    }
}

impl From<&u128> for Count {
    fn from(count: &u128) -> Self {
        Count::Whole(*count)
    }
}

impl From<f64> for Count {
    fn from(count: f64) -> Self {
        Count::Real(count)
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Count::Whole(count) => count.fmt(f),
            Count::Real(count) => Real(count).fmt(f),
        }
    }
}

/// A float as both formats write it.
pub(crate) struct Real(pub(crate) f64);

impl Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            number => number.fmt(f),
        }
    }
}

/// An upper bound as Prometheus 3 and OpenMetrics write it, so that a series keeps its name for all readers: with a
/// decimal point, or as a power of ten if it has very many digits on one side of the point.
pub(crate) struct Bound(pub(crate) f64);

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_finite() || self.0 == 0.0 {
            return if self.0 == 0.0 {
                f.write_str("0.0")
            } else {
                Real(self.0).fmt(f)
            };
        }
        let digits = format!("{:e}", self.0);
        let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if !(-4..6).contains(&exponent) {
            let sign = if exponent < 0 { '-' } else { '+' };
            return write!(f, "{mantissa}e{sign}{:02}", exponent.abs());
        }
        let plain = self.0.to_string();
        let point = if plain.contains('.') { "" } else { ".0" };
        write!(f, "{plain}{point}")
    }
}

/// Nanoseconds, written exactly as seconds without trailing zeros.
pub(crate) struct Seconds(pub(crate) u128);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return whole.fmt(f);
        }
        let decimals = format!("{rest:09}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_in_the_catalogue() {
        use crate::catalogue::Buckets;
        for buckets in [
            Buckets::Latency,
            Buckets::Wait,
            Buckets::Gil,
            Buckets::Load,
            Buckets::Gc,
        ] {
            for (&bound, &le) in buckets.bounds().iter().zip(buckets.le()) {
                assert_eq!(Bound(bound as f64 / 1e9).to_string(), le);
            }
        }
        for (bound, le) in [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (-1.0, "-1.0"),
            (123_456.5, "123456.5"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e-5, "1e-05"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(Bound(bound).to_string(), le);
        }
    }

    #[test]
    fn seconds_are_exact() {
        for (nanoseconds, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (1_500_000_000, "1.5"),
            (10_000_000_000, "10"),
            (999_999_999, "0.999999999"),
            (u128::from(u64::MAX), "18446744073.709551615"),
        ] {
            assert_eq!(Seconds(nanoseconds).to_string(), text);
        }
    }
}
