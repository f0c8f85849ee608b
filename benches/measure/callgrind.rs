//! Parses callgrind's file: the total, and the cost of each function, by itself and with all functions that it calls.

use std::collections::HashMap;
use std::ops::AddAssign;

use anyhow::{Context, Result};

/// Instructions of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) own: i64,
    /// Including callees; too high for functions that call each other recursively
    pub(crate) with_callees: i64,
}

/// The object file and the name of the function.
pub(crate) type Function = (String, String);

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.own += other.own;
        self.with_callees += other.with_callees;
    }
}

/// Returns the number of instructions of the process.
pub(crate) fn total(dump: &str) -> Result<i64> {
    dump.lines()
        .rev()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or_else(|| line.strip_prefix("summary: "))
        })
        .and_then(|text| text.split_whitespace().next())
        .and_then(|text| text.parse().ok())
        .context("no total in callgrind's file")
}

/// Returns the cost of each function.
///
/// The format names each object and function once, `(7) name`, and later refers to it as `(7)`. The line after `calls=`
/// has the cost of the call; every other line of numbers is the function's own cost.
pub(crate) fn functions(dump: &str) -> HashMap<Function, Cost> {
    let mut objects = HashMap::new();
    let mut names = HashMap::new();
    let mut costs: HashMap<(&str, &str), Cost> = HashMap::new();
    let (mut object, mut function, mut callee) = ("", "", "");
    let mut is_call = false;
    for line in dump.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "ob" => object = define(&mut objects, value),
                "fn" => function = define(&mut names, value),
                "cob" => {
                    define(&mut objects, value);
                }
                "cfn" => callee = define(&mut names, value),
                "calls" => is_call = true,
                _ => {}
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line
                .split_whitespace()
                .nth(1)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            let of = costs.entry((object, function)).or_default();
            match is_call {
                false => {
                    *of += Cost {
                        own: cost,
                        with_callees: cost,
                    }
                }
                // The inner run of a recursive function would count twice.
                true if callee == function => {}
                true => of.with_callees += cost,
            }
            is_call = false;
        }
    }
    let name =
        |names: &HashMap<&str, &str>, id: &str| (*names.get(id).unwrap_or(&"???")).to_owned();
    let mut named: HashMap<Function, Cost> = HashMap::new();
    for ((object, function), cost) in costs {
        let file = name(&objects, object);
        let file = file.rsplit('/').next().unwrap_or_default().to_owned();
        *named.entry((file, name(&names, function))).or_default() += cost;
    }
    named
}

/// Remembers the name if `value` has one; returns the number.
fn define<'d>(known: &mut HashMap<&'d str, &'d str>, value: &'d str) -> &'d str {
    match value.split_once(' ') {
        Some((id, name)) => {
            known.insert(id, name);
            id
        }
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "# callgrind format\nversion: 1\nevents: Ir\n\n\
        ob=(1) /usr/sbin/apache2\nfl=(1) main.c\nfn=(1) main\n16 20\n+1 1\ncfn=(2) work\ncalls=1 50\n16 400\n\
        \nob=(2) /lib/libwork.so\nfn=(2)\n51 100\ncob=(1)\ncfn=(1)\ncalls=2 20\n* 200\ncfn=(2)\ncalls=3 51\n51 70\n\
        +3 100\n\ntotals: 421\n";

    #[test]
    fn costs_are_own_and_with_callees_but_not_with_oneself() {
        let costs = functions(DUMP);
        assert_eq!(
            costs[&("apache2".into(), "main".into())],
            Cost {
                own: 21,
                with_callees: 421
            }
        );
        assert_eq!(
            costs[&("libwork.so".into(), "work".into())],
            Cost {
                own: 200,
                with_callees: 400
            }
        );
        assert_eq!(total(DUMP).ok(), Some(421));
    }
}
