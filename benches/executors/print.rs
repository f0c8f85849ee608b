//! The tables: one for each row with all figures of its columns, then all rows side by side.

use crate::executors::cell::{Cell, Figure, Row, paired};
use crate::executors::column::Column;
use crate::executors::plan::{Plan, rows};
use crate::print::report;
use crate::print::table::{Spread, Table, thousands};

/// Prints the columns of one row, over its rounds.
pub(crate) fn row(row: &Row, columns: &[Column], cells: &[Cell]) {
    let Some(yardstick) = cells.first().map(|first| first.column.as_str()) else {
        return;
    };
    println!(
        "{}: {}; event, one child of {} threads, {} connections, {} requests, {} rounds, {}",
        row.workload.name(),
        row.workload.title(),
        row.threads,
        row.connections,
        thousands(row.requests as f64),
        cells.iter().map(|cell| cell.round + 1).max().unwrap_or(0),
        report::one_python(cells.iter().map(|cell| cell.libpython.as_deref())),
    );
    let of_first = format!("of {yardstick}");
    let mut table = Table::new(&[
        "",
        "requests/s",
        "min – max",
        &of_first,
        "p50 ms",
        "p99 ms",
        "switches",
        "CPU µs",
        "client µs",
        "closed",
    ]);
    let mut cut = Vec::new();
    for column in columns {
        let name = column.name.as_str();
        let of =
            |value: Figure| Spread::of(cells.iter().filter(|cell| cell.column == name).map(value));
        let median =
            |value| of(value).map_or("–".to_owned(), |spread: Spread| figure(spread.median));
        let Some(speed) = of(|cell| cell.per_second) else {
            continue;
        };
        let ratio = paired(cells, name, yardstick, |cell| cell.per_second);
        table.row(vec![
            name.to_owned(),
            figure(speed.median),
            format!("{} – {}", figure(speed.least), figure(speed.most)),
            ratio.map_or("–".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            median(|cell| cell.p50_us / 1e3),
            median(|cell| cell.p99_us / 1e3),
            median(|cell| cell.switches),
            median(|cell| cell.cpu_us),
            median(|cell| cell.client_us),
            median(|cell| cell.closed),
        ]);
        if let Some(requests) = of(|cell| cell.requests as f64)
            && requests.median < row.requests as f64
        {
            cut.push(format!("{name} after {}", thousands(requests.median)));
        }
    }
    println!("{table}");
    if !cut.is_empty() {
        println!(
            "Ended by time, {:.1} s: {} requests.",
            row.at_most.as_secs_f64(),
            cut.join(", ")
        );
    }
    report::others(cells.iter().map(|cell| cell.others));
    println!();
}

/// Prints all rows, in a table for each of the two figures that have targets.
pub(crate) fn overview(plan: &Plan, cells: &[Cell]) {
    let figures: [(&str, Figure); 2] = [
        ("Requests/s", |cell| cell.per_second),
        ("p99 in ms", |cell| cell.p99_us / 1e3),
    ];
    for (title, value) in figures {
        println!("{title}, medians of the rounds");
        let mut heads = vec![""];
        heads.extend(plan.columns.iter().map(|column| column.name.as_str()));
        let mut table = Table::new(&heads);
        for (name, cells) in rows(plan, cells) {
            let mut line = vec![name];
            line.extend(plan.columns.iter().map(|column| {
                let of_column = cells.iter().filter(|cell| cell.column == column.name);
                Spread::of(of_column.map(|&cell| value(cell)))
                    .map_or("–".to_owned(), |spread| figure(spread.median))
            }));
            table.row(line);
        }
        println!("{table}");
    }
}

/// Formats a figure with three digits or more: `0.57`, `14.1`, `2,310`.
pub(crate) fn figure(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits() {
        assert_eq!(
            [0.568, 14.06, 2_309.7]
                .map(figure)
                .each_ref()
                .map(String::as_str),
            ["0.57", "14.1", "2,310"]
        );
    }
}
