//! `cargo xtask layout`: rules about the sources that the compiler does not know.
//!
//! 1. The files of a crate import each other in one direction: there is no circle between files of different folders,
//!    none between folders, and none of more than three files inside one folder.
//! 2. A type name stands for one type in a crate.
//! 3. Comments, messages and pages are written in plain sentences ([`words`] lists the forms that are not allowed).
//! 4. A cited page or numbered fact is in the repository.
//! 5. The numbered facts of a page stand in order, and each is cited.
//! 6. The crates use only `pyo3::ffi` of pyo3 ([`pyo3`] says why).
//! 6. Of pyo3, only `pyo3::ffi` is used ([`pyo3`] says why).

mod circles;
mod citations;
mod crates;
mod imports;
mod names;
mod pyo3;
mod text;
mod words;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Print everything, and succeed whatever was found.
    #[arg(long)]
    report: bool,
    /// Print the import graph of each crate, too.
    #[arg(long)]
    graph: bool,
    /// Look at this crate only: the name of its folder in src/.
    #[arg(long = "crate", value_name = "NAME")]
    only: Option<String>,
    /// Look at another checkout.
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// A violation of a rule.
struct Finding {
    rule: Rule,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Circles,
    Names,
    Sentences,
    Citations,
    Facts,
    Pyo3,
}

impl Finding {
    fn new(rule: Rule, text: String) -> Self {
        Self { rule, text }
    }
}

/// Whether the checkout keeps all rules; prints the violations.
pub(crate) fn check(checkout: &Path) -> Result<bool> {
    run(checkout, &Options::default()).map(|code| code == ExitCode::SUCCESS)
}

pub(crate) fn run(checkout: &Path, options: &Options) -> Result<ExitCode> {
    let root = options.root.as_deref().unwrap_or(checkout);
    let mut found = Vec::new();
    for folder in crates::folders(root)? {
        let name = crates::name(&folder);
        if options.only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let parsed = crates::Crate::read(&folder).with_context(|| format!("src/{name}"))?;
        let graph = imports::Graph::of(&parsed);
        if options.graph {
            println!("== imports of src/{name}\n{}", graph.print());
        }
        let circles = circles::Circles::of(&graph);
        if options.report {
            let (lines, code) = parsed.lines();
            println!(
                "src/{name:<10} {:>3} files, {lines:>6} lines without tests, {code:>6} of them code; {}",
                parsed.files.len(),
                circles.summary()
            );
        }
        found.extend(
            circles
                .findings(&name)
                .into_iter()
                .map(|text| Finding::new(Rule::Circles, text)),
        );
        found.extend(
            names::duplicates(&parsed)
                .into_iter()
                .map(|text| Finding::new(Rule::Names, text)),
        );
    }
    let texts = text::read(root, options.only.as_deref())?;
    found.extend(words::findings(&texts));
    found.extend(citations::pages(root, &texts));
    if options.only.is_none() {
        found.extend(citations::facts(&texts));
        found.extend(pyo3::findings(root)?);
    }

    found.sort_by_key(|finding| finding.rule);
    let mut last = None;
    for finding in &found {
        if last != Some(finding.rule) {
            let count = found
                .iter()
                .filter(|other| other.rule == finding.rule)
                .count();
            println!("\n== {}: {count}", finding.rule.title());
            last = Some(finding.rule);
        }
        println!("{}", finding.text);
    }
    Ok(if found.is_empty() || options.report {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Rule {
    fn title(self) -> &'static str {
        match self {
            Self::Circles => "circles of imports",
            Self::Names => "type names that a crate has twice",
            Self::Sentences => "sentences",
            Self::Citations => "pages and files that are not in the repository",
            Self::Facts => "numbered facts",
            Self::Pyo3 => "pyo3",
        }
    }
}
