//! Instructions per request of our module, by object file and by function.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::measure::callgrind::{self, Cost, Function};
use crate::measure::instructions::{FEW, MANY, dump_after};
use crate::print::table::{Table, thousands};
use crate::subjects::server::{Httpd, Mpm};
use crate::subjects::subject::{Contender, Subject};

/// Prints the `top` functions by own cost and by cost including callees, and keeps both files of callgrind for other
/// tools.
pub(crate) fn print(httpd: &Httpd, subjects: &[Subject], top: usize, out: &Path) -> Result<()> {
    let ours = subjects
        .iter()
        .find(|subject| subject.contender == Contender::Ours)
        .or_else(|| {
            subjects
                .iter()
                .find(|subject| subject.contender == Contender::Rival)
        })
        .context("nothing with Python in it to profile")?;
    let (few, _) = dump_after(httpd, ours, Mpm::Prefork, FEW)?;
    let (many, _) = dump_after(httpd, ours, Mpm::Prefork, MANY)?;
    std::fs::write(out.join(format!("callgrind.{FEW}")), &few)?;
    std::fs::write(out.join(format!("callgrind.{MANY}")), &many)?;
    let costs = per_request(&callgrind::functions(&few), callgrind::functions(&many));

    let mut objects: HashMap<&str, f64> = HashMap::new();
    for ((object, _), (own, _)) in &costs {
        *objects.entry(object).or_default() += own;
    }
    let mut objects: Vec<_> = objects.into_iter().filter(|(_, own)| *own >= 0.5).collect();
    objects.sort_by(|one, other| other.1.total_cmp(&one.1));
    println!(
        "Instructions per request of {}, by object file",
        ours.contender.name()
    );
    let mut table = Table::new(&["instructions", "  object"]);
    for (object, own) in objects {
        table.row(vec![thousands(own), format!("  {object}")]);
    }
    println!("{table}");

    list("by function, its own", &costs, top, |cost| cost.0);
    list(
        "by function, with what it calls (more than was spent where calls run in a circle)",
        &costs,
        top,
        |cost| cost.1,
    );
    println!(
        "Kept for callgrind_annotate or kcachegrind: {}/callgrind.{FEW} and .{MANY}",
        out.display()
    );
    Ok(())
}

/// For each function, its own cost per request and its cost including callees.
type PerRequest = HashMap<Function, (f64, f64)>;

fn per_request(few: &HashMap<Function, Cost>, many: HashMap<Function, Cost>) -> PerRequest {
    let each = |difference: i64| difference as f64 / (MANY - FEW) as f64;
    many.into_iter()
        .map(|(function, cost)| {
            let before = few.get(&function).copied().unwrap_or_default();
            (
                function,
                (
                    each(cost.own - before.own),
                    each(cost.with_callees - before.with_callees),
                ),
            )
        })
        .collect()
}

fn list(title: &str, costs: &PerRequest, top: usize, of: impl Fn(&(f64, f64)) -> f64) {
    let mut rows: Vec<_> = costs
        .iter()
        .map(|(function, cost)| (function, of(cost)))
        .collect();
    rows.sort_by(|one, other| other.1.total_cmp(&one.1));
    println!("Instructions per request, {title}");
    let mut table = Table::new(&["instructions", "  object", "  function"]);
    for ((object, name), cost) in rows.into_iter().take(top) {
        table.row(vec![
            thousands(cost),
            format!("  {object}"),
            format!("  {}", shortened(name)),
        ]);
    }
    println!("{table}");
}

/// Shortens the names of generic Rust functions, which are several lines long.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 100 {
        name.to_owned()
    } else {
        name.chars().take(99).chain(['…']).collect()
    }
}
