//! The applications' own metrics.

use crate::series::{CustomFamily, CustomKind, CustomValue};

use super::page::{Bound, Count, Page, Real, Type};

/// Writes a family of an application.
pub(super) fn write(page: &mut Page<'_>, family: &CustomFamily) {
    let description = &family.description;
    let kind = match description.kind {
        CustomKind::Counter => Type::Counter,
        CustomKind::Gauge(_) => Type::Gauge,
        CustomKind::Histogram(_) => Type::Histogram,
        CustomKind::Summary => Type::Summary,
    };
    let help = match description.help.as_str() {
        "" => "The application says nothing about it.",
        help => help,
    };
    let mut lines = page.family(&description.name, kind, help);
    for series in &family.series {
        let names = description.labels.iter().map(String::as_str);
        let values = series.values.iter().map(String::as_str);
        let labels = lines.labels(names.zip(values));
        match &series.value {
            CustomValue::Number(number) => lines.sample(&labels, Real(*number)),
            CustomValue::Summary { count, sum } => {
                lines.line("_sum", &labels, None, Real(*sum));
                lines.line("_count", &labels, None, Real(*count));
            }
            CustomValue::Histogram {
                buckets,
                above,
                sum,
            } => {
                let bounds: Vec<String> = buckets
                    .iter()
                    .map(|(bound, _)| Bound(*bound).to_string())
                    .collect();
                let counts = buckets.iter().map(|(_, count)| *count).chain([*above]);
                let counts = counts.map(Count::Real);
                let bounds = bounds.iter().map(String::as_str);
                lines.histogram(&labels, bounds, counts, Real(*sum));
            }
        }
    }
}
