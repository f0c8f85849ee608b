//! What is checked in is what the generator writes, and what it writes is sound.
//!
//! * `generated`: the files, and what else in the folder depends on them
//! * `linter`: the rules of Grafana's dashboard-linter, restated
//! * `promql`: reads PromQL against the catalogue
//! * `queries`: what that finds in the dashboards and rules
//! * `promtool`: the rules under Prometheus's own tool

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on is meant to panic where it stands"
)]

mod generated;
mod linter;
mod promql;
mod promtool;
mod queries;

use wsgi_dashboards::parameters::Parameters;

/// Returns the file of this name, as the generator writes it.
fn file(name: &str) -> String {
    wsgi_dashboards::files(&Parameters::default())
        .into_iter()
        .find(|(file, _)| file == name)
        .unwrap_or_else(|| panic!("the generator writes no {name}"))
        .1
}
