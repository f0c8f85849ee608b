//! The rows and columns that are measured, and the settings of the measurement.

use std::path::Path;

use crate::executors::cell::Cell;
use crate::executors::column::{Column, Files};
use crate::executors::workload::Workload;

/// The settings of a measurement.
pub(crate) struct Plan<'o> {
    pub(crate) threads: Vec<usize>,
    /// Connections; by default as many as threads
    pub(crate) connections: Option<usize>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) columns: Vec<Column>,
    pub(crate) rounds: usize,
    /// Length of a window, for the fastest column
    pub(crate) seconds: f64,
    pub(crate) files: Files<'o>,
    /// `WSGIPythonHome` of all servers
    pub(crate) home: Option<&'o Path>,
    /// The program of that Python
    pub(crate) interpreter: &'o Path,
}

/// Returns the name and the cells of each row, in the order of the tables.
pub(crate) fn rows<'c>(
    plan: &Plan,
    cells: &'c [Cell],
) -> impl Iterator<Item = (String, Vec<&'c Cell>)> {
    plan.threads.iter().flat_map(move |&threads| {
        plan.workloads.iter().map(move |&workload| {
            let of_row = |cell: &&Cell| cell.threads == threads && cell.workload == workload;
            (
                format!("{threads} threads, {}", workload.name()),
                cells.iter().filter(of_row).collect(),
            )
        })
    })
}
