//! The crates in src/ may use only `pyo3::ffi` of pyo3: the rest of it keeps type objects in process statics and
//! attaches to the main interpreter, which corrupts memory if a process has several interpreters ([E-1]).

use super::{Finding, Rule};
use anyhow::{Context, Result};
use regex::Regex;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn findings(root: &Path) -> Result<Vec<Finding>> {
    let path_of = Regex::new(r"\bpyo3::(ffi\b)?")?;
    let whole = Regex::new(r"\b(use\s+(::)?|extern\s+crate\s+)pyo3\s*(;|as\b)")?;
    let renamed = Regex::new(r#"package\s*=\s*"pyo3"|"macros""#)?;
    let listed = Command::new("git")
        .args(["ls-files", "-z", "src", "Cargo.toml"])
        .current_dir(root)
        .output()?;
    let mut found = Vec::new();
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let path = Path::new(name);
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if !(is_source || path.ends_with("Cargo.toml")) || !root.join(path).exists() {
            continue;
        }
        let text = fs::read_to_string(root.join(path)).with_context(|| name.to_owned())?;
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            let is_bad = if is_source {
                whole.is_match(line)
                    || path_of
                        .find_iter(line)
                        .any(|hit| !hit.as_str().ends_with("ffi"))
            } else {
                line.contains("pyo3") && renamed.is_match(line)
            };
            if is_bad {
                let finding = format!(
                    "{name}:{}: only pyo3::ffi may be used: {}",
                    number + 1,
                    line.trim()
                );
                found.push(Finding::new(Rule::Pyo3, finding));
            }
        }
    }
    Ok(found)
}
