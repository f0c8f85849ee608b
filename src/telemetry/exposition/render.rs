//! Writing the page.

use super::negotiate::Format;
use crate::catalogue::{
    ANSWERED, CODE, FAMILIES, Family, Id, Kind, METHOD, OTHER, PROCESS_GROUP, Source, Unit, value,
};
use crate::reading::{Numbers, ProcessGroupNumbers, Snapshot};

use super::page::{FamilyLines, Page, Seconds, Type};
use super::{custom, derived};

/// Writes the page of a snapshot to `out`.
pub fn render(snapshot: &Snapshot, format: Format, out: &mut String) {
    let mut page = Page::new(format, out);
    let applications = derived::Applications::of(snapshot);
    let counted = applications.counted();
    for family in FAMILIES {
        let kind = type_of(family);
        let name = family.name.strip_suffix(kind.suffix());
        let mut lines = page.family(name.unwrap_or(family.name), kind, family.help);
        match family.source {
            Source::Application => {
                for application in &counted {
                    let app = Some(("app", &*application.application.label));
                    write_cells(&mut lines, family, app, &application.numbers);
                }
            }
            Source::Process => {
                write_cells(&mut lines, family, None, &snapshot.process);
                for group in &snapshot.process_groups {
                    write_cells(&mut lines, family, label_of(group), &group.process);
                }
            }
            Source::Header => {
                write_cells(&mut lines, family, None, &snapshot.header);
                for group in &snapshot.process_groups {
                    write_cells(&mut lines, family, label_of(group), &group.header);
                }
            }
            Source::Derived => derived::write(&mut lines, family, &applications, snapshot),
        }
    }
    for family in &snapshot.custom.families {
        custom::write(&mut page, family);
    }
    page.end();
}

fn type_of(family: &Family) -> Type {
    match family.kind {
        Kind::Counter => Type::Counter,
        Kind::Gauge if family.name.ends_with("_info") => Type::Info,
        Kind::Gauge => Type::Gauge,
        Kind::Histogram(_) => Type::Histogram,
    }
}

/// Returns the label of a process group.
pub(super) fn label_of(group: &ProcessGroupNumbers) -> Option<(&str, &str)> {
    Some((PROCESS_GROUP, &group.name))
}

/// Writes all series of a family that has cells. `of` is the label of the application or of the process group.
fn write_cells(
    lines: &mut FamilyLines<'_, '_>,
    family: &Family,
    of: Option<(&str, &str)>,
    numbers: &Numbers,
) {
    for series in 0..family.series() {
        if family.sparse && !is_kept(family, of, series) && is_unseen(family, series, numbers) {
            continue;
        }
        let values = family.values(series);
        let names = family.labels.iter().map(|label| label.name);
        let labels = lines.labels(of.into_iter().chain(names.zip(values)));
        match family.kind {
            Kind::Counter => {
                let count = numbers.counter(family.id, series);
                match family.unit {
                    Unit::Seconds => lines.sample(&labels, Seconds(count)),
                    Unit::Count | Unit::Bytes => lines.sample(&labels, count),
                }
            }
            Kind::Gauge => lines.sample(&labels, numbers.gauge(family.id, series)),
            Kind::Histogram(buckets) => {
                let (counts, sum) = numbers.histogram(family.id, series);
                let bounds = buckets.le().iter().copied();
                lines.histogram(&labels, bounds, counts.iter(), Seconds(sum));
            }
        }
    }
}

/// Returns whether a combination is shown before it has occurred. These are, so that there is a rate before the first
/// error.
fn is_kept(family: &Family, of: Option<(&str, &str)>, series: usize) -> bool {
    if of == Some(("app", OTHER)) {
        return false;
    }
    match family.id {
        Id::Requests => KEPT_REQUESTS.contains(&series),
        Id::RequestDuration => KEPT_DURATIONS.contains(&series),
        _ => false,
    }
}

fn is_unseen(family: &Family, series: usize, numbers: &Numbers) -> bool {
    match family.kind {
        Kind::Histogram(_) => {
            let (buckets, sum) = numbers.histogram(family.id, series);
            sum == 0 && buckets.iter().all(|&count| count == 0)
        }
        Kind::Counter | Kind::Gauge => numbers.counter(family.id, series) == 0,
    }
}

const GET: usize = value(METHOD, "GET") * CODE.values.len();
const KEPT_REQUESTS: [usize; 2] = [GET + value(CODE, "2xx"), GET + value(CODE, "5xx")];
const KEPT_DURATIONS: [usize; 2] = [value(ANSWERED, "2xx"), value(ANSWERED, "5xx")];
