//! Checks the pages, files and numbered facts that comments and pages cite.
//!
//! A fact begins a row or a paragraph of its page with its number: `| S-5 |` or `**E-5.**`. It is cited by its number
//! in brackets, `[S-5]`; on pages also without brackets.

use super::text::{Kind, Text};
use super::{Finding, Rule};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

/// The pages with numbered facts, and the letter before their numbers.
const FACTS: &[(&str, &str)] = &[
    ("SAFETY.md", "S"),
    ("docs/embedding.md", "E"),
    ("docs/mod_wsgi.md", "M"),
];

static PAGE: LazyLock<Regex> = LazyLock::new(|| regex(r"[\w./-]*\w\.md\b"));
/// Matches files of the repository, as pages and comments name them.
static FILE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"`((src|tests|benches|dashboards|scripts|xtask|bindings|docs|config-examples)/[\w./-]*\w\.(rs|py|c|h|conf|wsgi))`",
    )
});
static LINK: LazyLock<Regex> = LazyLock::new(|| regex(r"\]\(([^)#\s]+)(#[^)\s]*)?\)"));
/// Matches sections of unnamed pages, which only the author can open.
static NAMELESS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"\((features, |appendix [A-Z], )?[0-9]\.[0-9]+(, [0-9]\.[0-9]+)*\)|\(architecture,? [0-9]|[Aa]ppendix [A-Z]\b|fact sheet",
    )
});
static FACT: LazyLock<Regex> = LazyLock::new(|| regex(r"\b([SEM])-([0-9]+)\b"));
static DEFINED: LazyLock<Regex> = LazyLock::new(|| regex(r"(?m)^(?:\| |\*\*)([SEM])-([0-9]+)\b"));

fn regex(form: &str) -> Regex {
    Regex::new(form).expect("a constant of this file, which a test compiles")
}

/// Finds cited pages and files that are not in the repository.
pub(crate) fn pages(root: &Path, texts: &[Text]) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    for text in texts.iter().filter(|text| !is_own(text)) {
        let beside = text.path.parent().unwrap_or(Path::new(""));
        let exists = |name: &str| {
            beside
                .ancestors()
                .any(|folder| root.join(plain(&folder.join(name))).exists())
        };
        let mut add = |at, finding: String| found.insert(format!("{}: {finding}", text.at(at)));
        for hit in PAGE.find_iter(&text.text) {
            if !exists(hit.as_str()) && !is_address(&text.text[..hit.start()]) {
                add(hit.start(), format!("no page {}", hit.as_str()));
            }
        }
        for hit in FILE.captures_iter(&text.text) {
            if !root.join(&hit[1]).exists() {
                add(
                    hit.get(0).map_or(0, |whole| whole.start()),
                    format!("no file {}", &hit[1]),
                );
            }
        }
        if text.kind == Kind::Page {
            for hit in LINK.captures_iter(&text.text) {
                let target = &hit[1];
                if !target.contains("://") && !target.starts_with("mailto:") && !exists(target) {
                    let at = hit.get(0).map_or(0, |whole| whole.start());
                    add(at, format!("a link to {target}, which is not there"));
                }
            }
        } else if text.kind == Kind::Comment {
            for hit in NAMELESS.find_iter(&text.text) {
                add(hit.start(), format!("\"{}\": of which page?", hit.as_str()));
            }
        }
    }
    found
        .into_iter()
        .map(|finding| Finding::new(Rule::Citations, finding))
        .collect()
}

/// Whether the text before this place makes it part of a web address.
fn is_address(before: &str) -> bool {
    before
        .rsplit(char::is_whitespace)
        .next()
        .is_some_and(|word| word.contains("://"))
}

/// Returns a path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// This file has citations as examples.
fn is_own(text: &Text) -> bool {
    text.path == Path::new("xtask/layout/citations.rs")
}

/// Finds facts out of order, cited facts that do not exist, and facts that only their own page cites.
pub(crate) fn facts(texts: &[Text]) -> Vec<Finding> {
    let mut lines = Vec::new();
    let mut defined: BTreeMap<(String, u32), String> = BTreeMap::new();
    let mut cited: BTreeMap<(String, u32), String> = BTreeMap::new();
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    for text in texts.iter().filter(|text| !is_own(text)) {
        let letter = FACTS
            .iter()
            .find(|(page, _)| text.path == Path::new(page))
            .map(|(_, letter)| *letter);
        let mut definitions = BTreeSet::new();
        for hit in DEFINED
            .captures_iter(&text.text)
            .filter(|hit| Some(&hit[1]) == letter)
        {
            let Ok(number) = hit[2].parse() else { continue };
            let start = hit.get(1).map_or(0, |letter| letter.start());
            definitions.insert(start);
            let place = text.at(start);
            if let Some(before) = last
                .insert(hit[1].to_owned(), number)
                .filter(|before| *before >= number)
            {
                lines.push(format!(
                    "{place}: {}-{number} stands behind {}-{before}",
                    &hit[1], &hit[1]
                ));
            }
            defined.insert((hit[1].to_owned(), number), place);
        }
        for hit in FACT.captures_iter(&text.text) {
            let start = hit.get(0).map_or(0, |whole| whole.start());
            let Ok(number) = hit[2].parse() else { continue };
            // A page does not cite itself.
            if !definitions.contains(&start) && Some(&hit[1]) != letter {
                cited
                    .entry((hit[1].to_owned(), number))
                    .or_insert_with(|| text.at(start));
            }
        }
    }
    for ((letter, number), place) in &cited {
        if !defined.contains_key(&(letter.clone(), *number)) {
            lines.push(format!(
                "{place}: cites {letter}-{number}, which no page has"
            ));
        }
    }
    for ((letter, number), place) in &defined {
        if !cited.contains_key(&(letter.clone(), *number)) {
            lines.push(format!("{place}: nothing cites {letter}-{number}"));
        }
    }
    lines
        .into_iter()
        .map(|line| Finding::new(Rule::Facts, line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameless_sections_are_found() {
        for text in [
            "headers (4.2), paths",
            "(features, 2.3)",
            "(appendix B, 6)",
            "appendix C",
        ] {
            assert!(NAMELESS.is_match(text), "{text}");
        }
        assert!(!NAMELESS.is_match("Linux (5.14.1)"));
    }

    #[test]
    fn a_path_beside_is_made_plain() {
        assert_eq!(plain(Path::new("src/../SAFETY.md")), Path::new("SAFETY.md"));
    }
}
