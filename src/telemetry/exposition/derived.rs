//! Families without cells, derived from the whole snapshot.

use std::collections::BTreeMap;

use crate::catalogue::{
    ARENA_STATE, CHILD_STATE, CONNECTION_STATE, Family, Id, Label, SEGMENT_SIZE, WORKER_STATE,
};
use crate::reading::{ApplicationNumbers, Child, Snapshot};
use crate::segment::Fact;
use crate::segment::Role;

use super::page::{FamilyLines, Seconds};
use super::render::label_of;
use crate::catalogue::OTHER;

/// The applications of a snapshot, with their running requests.
pub(super) struct Applications<'s> {
    snapshot: &'s Snapshot,
    /// Number of running requests and stamp of the oldest, by label.
    running: BTreeMap<&'s str, (u64, u64)>,
}

impl<'s> Applications<'s> {
    /// Number of applications up to which all show zeroes for what has not happened.
    const FEW: usize = 256;

    pub(super) fn of(snapshot: &'s Snapshot) -> Self {
        let mut running = BTreeMap::new();
        for request in &snapshot.running {
            let (count, oldest) = running
                .entry(snapshot.label(request.app))
                .or_insert((0, request.since));
            *count += 1;
            *oldest = request.since.min(*oldest);
        }
        Self { snapshot, running }
    }

    /// Returns the applications whose cells are shown. If there are more than [`Self::FEW`], these are only those that
    /// have counted something, since each application has some 300 lines.
    pub(super) fn counted(&self) -> Vec<&'s ApplicationNumbers> {
        let are_few = self.snapshot.applications.len() <= Self::FEW;
        let is_counted = |application: &&ApplicationNumbers| {
            let label = application.application.label.as_str();
            are_few || self.running.contains_key(label) || !application.numbers.are_zero()
        };
        self.shown().filter(is_counted).collect()
    }

    /// Returns the applications that are shown: all, but `_other` only once it has counted something.
    pub(super) fn shown(&self) -> impl Iterator<Item = &'s ApplicationNumbers> {
        let applications = self.snapshot.applications.iter();
        applications.filter(|application| {
            let label = application.application.label.as_str();
            label != OTHER || self.running.contains_key(label) || !application.numbers.are_zero()
        })
    }
}

/// Writes the samples of a derived family.
pub(super) fn write(
    lines: &mut FamilyLines<'_, '_>,
    family: &Family,
    applications: &Applications<'_>,
    snapshot: &Snapshot,
) {
    match family.id {
        Id::RequestsInFlight
        | Id::OldestRequestAge
        | Id::InterpreterOldestStart
        | Id::InterpreterNewestStart
        | Id::ApplicationInfo => {
            for application in applications.shown() {
                write_application(lines, family, applications, application);
            }
        }
        Id::PythonInfo => {
            python_info(lines, family, None, &snapshot.facts);
            for group in &snapshot.process_groups {
                python_info(lines, family, label_of(group), &group.facts);
            }
        }
        Id::MpmInfo => {
            let text = |is: bool| if is { "true" } else { "false" };
            let (threaded, forked) = (text(snapshot.threaded), text(snapshot.forked));
            info(lines, family, &[snapshot.fact(Fact::Mpm), threaded, forked]);
        }
        Id::BuildInfo => {
            let facts = [Fact::Version, Fact::Revision, Fact::Rustc, Fact::Httpd];
            info(lines, family, &facts.map(|fact| snapshot.fact(fact)));
        }
        Id::Children => {
            children_by_state(lines, None, &snapshot.children);
            for group in &snapshot.process_groups {
                children_by_state(lines, label_of(group), &group.children);
            }
        }
        Id::ChildrenMemory | Id::ChildMemoryMax => {
            memory(lines, family, None, &snapshot.children);
            for group in &snapshot.process_groups {
                memory(lines, family, label_of(group), &group.children);
            }
        }
        Id::MpmWorkers => {
            if let Some(scoreboard) = &snapshot.scoreboard {
                by_label(lines, &WORKER_STATE, scoreboard.workers);
            }
        }
        Id::MpmConnections => {
            let scoreboard = snapshot.scoreboard.as_ref();
            if let Some(connections) = scoreboard.and_then(|scoreboard| scoreboard.connections) {
                by_label(lines, &CONNECTION_STATE, connections);
            }
        }
        Id::MetricsArenas => {
            let free = snapshot.arenas.saturating_sub(snapshot.arenas_used);
            by_label(lines, &ARENA_STATE, [snapshot.arenas_used, free]);
        }
        Id::MetricsSegment => {
            let sizes = [Some(snapshot.mapped), snapshot.resident];
            by_label(lines, &SEGMENT_SIZE, sizes.into_iter().flatten());
        }
        _ => {
            if let Some(number) = number(family.id, snapshot) {
                let labels = lines.labels(std::iter::empty());
                match family.unit {
                    crate::catalogue::Unit::Seconds => lines.sample(&labels, Seconds(number)),
                    _ => lines.sample(&labels, number),
                }
            }
        }
    }
}

/// Writes the number of living children, or processes of a group, in each state.
fn children_by_state(
    lines: &mut FamilyLines<'_, '_>,
    of: Option<(&str, &str)>,
    children: &[Child],
) {
    let count = |role| children.iter().filter(|child| child.state == role).count();
    let roles = [Role::Starting, Role::Ready, Role::Draining];
    for (value, role) in CHILD_STATE.values.iter().zip(roles) {
        let labels = of.into_iter().chain([(CHILD_STATE.name, *value)]);
        let labels = lines.labels(labels);
        lines.sample(&labels, count(role));
    }
}

/// Writes the resident memory of all living children, or of the largest one.
fn memory(
    lines: &mut FamilyLines<'_, '_>,
    family: &Family,
    of: Option<(&str, &str)>,
    children: &[Child],
) {
    let known = children.iter().filter_map(|child| child.resident);
    let bytes: u128 = match family.id {
        Id::ChildrenMemory => known.map(u128::from).sum(),
        _ => known.max().unwrap_or(0).into(),
    };
    let labels = lines.labels(of.into_iter());
    lines.sample(&labels, bytes);
}

/// Writes what is known of a Python.
fn python_info(
    lines: &mut FamilyLines<'_, '_>,
    family: &Family,
    of: Option<(&str, &str)>,
    facts: &[String],
) {
    let known = [Fact::Python, Fact::Implementation, Fact::Gil];
    let values = known.map(|fact| facts[fact as usize].as_str());
    if values.iter().any(|value| !value.is_empty()) {
        let names = family.labels.iter().map(|label| label.name);
        let labels = lines.labels(of.into_iter().chain(names.zip(values)));
        lines.sample(&labels, 1);
    }
}

/// Returns the value of a family that is a single number.
fn number(id: Id, snapshot: &Snapshot) -> Option<u128> {
    Some(match id {
        Id::MpmWorkersLimit => snapshot.workers_limit.into(),
        Id::MpmChildrenLimit => snapshot.children_limit.into(),
        Id::MpmThreadsPerChild => snapshot.threads_per_child.into(),
        Id::ServerStart => snapshot.start.into(),
        Id::ConfigGeneration => snapshot.generation.into(),
        Id::ConfigLoad => snapshot.config_load.into(),
        Id::MetricsSeries => snapshot.custom.used.into(),
        Id::MetricsSeriesLimit => snapshot.series_limit.into(),
        Id::MetricsLastScrape => snapshot.last_scrape.into(),
        _ => return None,
    })
}

fn write_application(
    lines: &mut FamilyLines<'_, '_>,
    family: &Family,
    applications: &Applications<'_>,
    numbers: &ApplicationNumbers,
) {
    let application = &numbers.application;
    let app = application.label.as_str();
    let labels = lines.labels([("app", app)].into_iter());
    let running = applications.running.get(app);
    match family.id {
        Id::RequestsInFlight => lines.sample(&labels, running.map_or(0, |(count, _)| *count)),
        Id::OldestRequestAge => {
            let age = running.map_or(0, |(_, oldest)| {
                applications.snapshot.now.saturating_sub(*oldest)
            });
            lines.sample(&labels, Seconds(age.into()));
        }
        Id::InterpreterOldestStart | Id::InterpreterNewestStart => {
            if let Some((oldest, newest)) = numbers.interpreters_since {
                let oldest_wanted = family.id == Id::InterpreterOldestStart;
                lines.sample(
                    &labels,
                    Seconds(if oldest_wanted { oldest } else { newest }.into()),
                );
            }
        }
        // The applications in `_other` have no common configuration.
        _ if app == OTHER => {}
        _ => {
            let interpreter = match application.group.as_str() {
                "" => "main",
                group => group,
            };
            let values = [application.mount.as_str(), &application.script, interpreter];
            let names = family.labels.iter().map(|label| label.name);
            let labels = [("app", app)].into_iter().chain(names.zip(values));
            let labels = lines.labels(labels);
            lines.sample(&labels, 1);
        }
    }
}

fn info(lines: &mut FamilyLines<'_, '_>, family: &Family, values: &[&str]) {
    let names = family.labels.iter().map(|label| label.name);
    let labels = lines.labels(names.zip(values.iter().copied()));
    lines.sample(&labels, 1);
}

/// Writes one sample for each value of the only label.
fn by_label(
    lines: &mut FamilyLines<'_, '_>,
    label: &Label,
    numbers: impl IntoIterator<Item = u64>,
) {
    for (value, number) in label.values.iter().zip(numbers) {
        let labels = lines.labels([(label.name, *value)].into_iter());
        lines.sample(&labels, number);
    }
}
