//! Parsers for arguments that several directives share.

use super::directive::{Context, Directive, Effect};
use crate::config::conf_words::Words;
use crate::config::directory::AuxiliaryScript;
use crate::request::group::literal_group;

/// The row from which most rows take their fields: On or Off, main server only, in effect.
pub(super) const ON_OFF: Directive = Directive {
    name: "",
    context: Context::Global,
    in_container: false,
    container: false,
    syntax: "On|Off",
    default: "Off",
    help: "",
    example: "",
    difference: "",
    effect: Effect::Now,
    parse: |args, _| on_off(args).map(drop),
};

/// The `difference` of a directive that mod_wsgi does not have.
pub(super) const OURS: &str = "mod_wsgi does not have this directive.";

/// Returns the only word of `args`.
pub(super) fn one(args: &str) -> Result<String, String> {
    let mut words = Words::new(args);
    match (words.next(), words.count()) {
        (Some(word), 0) => Ok(word),
        (None, _) => Err("takes one argument, and there is none".into()),
        (_, more) => Err(format!("takes one argument, not {}", more + 1)),
    }
}

/// Parses the only word of `args` as On or Off, in any case.
pub(super) fn on_off(args: &str) -> Result<bool, String> {
    parse_on_off(&one(args)?)
}

pub(super) fn parse_on_off(word: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{word}' is neither On nor Off")),
    }
}

/// Parses the only word of `args` as a number of seconds that `permitted` accepts and `kind` describes.
pub(super) fn seconds(args: &str, kind: &str, permitted: fn(f64) -> bool) -> Result<f64, String> {
    let word = one(args)?;
    let number = word
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && permitted(*number));
    number.ok_or_else(|| format!("'{word}' is not {kind} of seconds"))
}

/// Takes the next option. The error names the text that is not one.
pub(super) fn option<'a>(words: &mut Words<'a>) -> Result<(&'a str, String), String> {
    words
        .option()
        .ok_or_else(|| format!("'{}' is not of the form option=value", words.rest()))
}

/// Returns the name of a group from the value of `option`, which must not be empty.
pub(super) fn group_name(option: &str, value: String) -> Result<String, String> {
    if value.is_empty() {
        return Err(format!("{option}= lacks a name"));
    }
    Ok(literal_group(value))
}

/// Takes the path of a script.
pub(super) fn script_path(words: &mut Words<'_>) -> Result<String, String> {
    let path = words.next().filter(|path| !path.is_empty());
    path.ok_or_else(|| "the path of the script is missing".into())
}

pub(super) fn unknown_option(name: &str, permitted: &str) -> String {
    format!("'{name}' is not an option here; permitted are {permitted}")
}

/// Parses a script, which only `application-group=` may follow.
pub(super) fn auxiliary_script(args: &str) -> Result<AuxiliaryScript, String> {
    let mut words = Words::new(args);
    let script = script_path(&mut words)?;
    let mut application_group = None;
    while !words.is_empty() {
        match option(&mut words)? {
            ("application-group", value) => {
                application_group = Some(group_name("application-group", value)?)
            }
            (name, _) => return Err(unknown_option(name, "application-group=")),
        }
    }
    Ok(AuxiliaryScript {
        script,
        application_group,
    })
}
