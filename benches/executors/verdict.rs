//! Whether, in each row, `auto` is as good as the best executor chosen by hand, and better than mod_wsgi.

use crate::executors::cell::{Cell, paired};
use crate::executors::column::{AUTO, MOD_WSGI};
use crate::executors::plan::{Plan, rows};
use crate::print::table::{Spread, Table};
use crate::print::verdict::Verdict;

/// Prints a line for each row. The verdict is met only if it is met for all rows.
pub(crate) fn print(plan: &Plan, cells: &[Cell]) -> Verdict {
    let missing: Vec<&str> = [AUTO, DIRECT, MOD_WSGI]
        .into_iter()
        .filter(|&wanted| plan.columns.iter().all(|column| column.name != wanted))
        .collect();
    if !missing.is_empty() {
        println!("No verdicts: they need {} too.\n", missing.join(", "));
        return Verdict::NotMeasured;
    }
    let best_wanted = format!("≥ {NEAR_BEST}, or ≥ {NEAR_ENOUGH} and p99 ≤ {HALF}");
    println!("auto, ratios of paired runs: {best_wanted} of direct; > 1 of mod_wsgi");
    let mut table = Table::new(&[
        "",
        " best other",
        "requests/s of it",
        "min – max",
        "p99 of direct",
        "of mod_wsgi",
        "min – max",
        " met",
    ]);
    let mut verdicts = Vec::new();
    for (name, cells) in rows(plan, cells) {
        let judged = Judged::of(&cells);
        let median = |ratio: Option<&Spread>| {
            ratio.map_or("–".to_owned(), |ratio| format!("{:.3}", ratio.median))
        };
        let range = |ratio: Option<&Spread>| {
            ratio.map_or("–".to_owned(), |ratio| {
                format!("{:.2} – {:.2}", ratio.least, ratio.most)
            })
        };
        let (best_name, best) = judged
            .best
            .as_ref()
            .map_or(("–", None), |(name, ratio)| (name.as_str(), Some(ratio)));
        table.row(vec![
            name,
            best_name.to_owned(),
            median(best),
            range(best),
            median(judged.p99.as_ref()),
            median(judged.rival.as_ref()),
            range(judged.rival.as_ref()),
            judged.answer(),
        ]);
        verdicts.extend([judged.near_best(), judged.beats_rival()]);
    }
    println!("{table}");
    let verdict = Verdict::of_all(&verdicts);
    let count = verdicts
        .iter()
        .filter(|&&verdict| verdict == Verdict::Met)
        .count();
    println!("{count} of {} targets are met.\n", verdicts.len());
    verdict
}

/// The ratios of one row.
struct Judged {
    /// The column with the best median, other than `auto`, and the ratio of the requests of `auto` to its requests
    best: Option<(String, Spread)>,
    /// The ratio of the 99th percentile of `auto` to that of `direct`
    p99: Option<Spread>,
    /// The ratio of the requests of `auto` to those of mod_wsgi
    rival: Option<Spread>,
}

impl Judged {
    fn of(cells: &[&Cell]) -> Self {
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.column.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let median = |name: &str| {
            let speeds = cells.iter().filter(|cell| cell.column == name);
            Spread::of(speeds.map(|cell| cell.per_second)).map_or(0.0, |spread| spread.median)
        };
        let best = names
            .into_iter()
            .filter(|&name| name != AUTO)
            .max_by(|one, other| median(one).total_cmp(&median(other)));
        let to = |other: &str, value| paired(cells.iter().copied(), AUTO, other, value);
        Self {
            best: best.and_then(|name| Some((name.to_owned(), to(name, |cell| cell.per_second)?))),
            p99: to(DIRECT, |cell| cell.p99_us),
            rival: to(MOD_WSGI, |cell| cell.per_second),
        }
    }

    fn near_best(&self) -> Verdict {
        let Some((_, best)) = &self.best else {
            return Verdict::NotMeasured;
        };
        let steadier = || self.p99.as_ref().is_some_and(|p99| p99.median <= HALF);
        verdict(best.median >= NEAR_BEST || (best.median >= NEAR_ENOUGH && steadier()))
    }

    fn beats_rival(&self) -> Verdict {
        match &self.rival {
            None => Verdict::NotMeasured,
            Some(rival) => verdict(rival.median > 1.0),
        }
    }

    /// Returns the text for the table: the targets that are missed, and whether they are missed within the noise.
    fn answer(&self) -> String {
        let mut missed = Vec::new();
        for (name, verdict) in [("best", self.near_best()), ("mod_wsgi", self.beats_rival())] {
            match verdict {
                Verdict::Met => {}
                Verdict::Missed => missed.push(format!("NO ({name})")),
                Verdict::NotMeasured => missed.push(format!("not measured ({name})")),
            }
        }
        let level = |rival: &Spread| rival.median <= 1.0 && rival.most >= 1.0;
        if self.rival.as_ref().is_some_and(level) {
            missed.push("level with mod_wsgi within the noise".to_owned());
        }
        if missed.is_empty() {
            "yes".to_owned()
        } else {
            missed.join(", ")
        }
    }
}

fn verdict(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::Missed }
}

/// The column with whose 99th percentile that of `auto` is compared.
const DIRECT: &str = "direct";
/// The least share of the requests of the best other column.
const NEAR_BEST: f64 = 0.95;
/// The least share if `auto` is steadier.
const NEAR_ENOUGH: f64 = 0.90;
/// The share of the 99th percentile of `direct` that counts as steadier.
const HALF: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::workload::Workload;

    fn cell(column: &str, round: usize, per_second: f64, p99_us: f64) -> Cell {
        Cell {
            threads: 25,
            workload: Workload::Mix,
            round,
            column: column.to_owned(),
            requests: 1,
            per_second,
            p50_us: 0.0,
            p99_us,
            switches: 0.0,
            cpu_us: 0.0,
            client_us: 0.0,
            others: 0.0,
            closed: 0.0,
            libpython: None,
        }
    }

    fn judge(cells: &[Cell]) -> (Verdict, Verdict) {
        let judged = Judged::of(&cells.iter().collect::<Vec<_>>());
        (judged.near_best(), judged.beats_rival())
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let cells = [
            cell("auto", 0, 100.0, 0.0),
            cell("direct", 0, 50.0, 0.0),
            cell("auto", 1, 10.0, 0.0),
            cell("direct", 1, 5.0, 0.0),
            cell("auto", 2, 1.0, 0.0),
        ];
        let ratio = paired(&cells, "auto", "direct", |cell| cell.per_second).expect("two pairs");
        assert_eq!((ratio.least, ratio.most), (2.0, 2.0));
    }

    #[test]
    fn a_tenth_less_is_enough_only_where_p99_is_halved() {
        let with = |auto: f64, p99: f64| {
            judge(&[
                cell("auto", 0, auto, p99),
                cell("direct", 0, 80.0, 10.0),
                cell("pool4", 0, 100.0, 3.0),
                cell("mod_wsgi", 0, 70.0, 10.0),
            ])
        };
        assert_eq!(with(96.0, 20.0), (Verdict::Met, Verdict::Met));
        assert_eq!(with(92.0, 5.1), (Verdict::Missed, Verdict::Met));
        assert_eq!(with(92.0, 4.9), (Verdict::Met, Verdict::Met));
        assert_eq!(with(89.0, 1.0), (Verdict::Missed, Verdict::Met));
        assert_eq!(with(70.0, 1.0), (Verdict::Missed, Verdict::Missed));
    }

    #[test]
    fn what_did_not_run_is_not_judged() {
        let cells = [cell("auto", 0, 1.0, 1.0)];
        assert_eq!(judge(&cells), (Verdict::NotMeasured, Verdict::NotMeasured));
    }
}
