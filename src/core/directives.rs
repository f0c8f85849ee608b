//! The rows of the table, one file a topic, and what their arguments have in common.

use crate::config::{AuxiliaryScript, PlaceConfig, ServerConfig};
use crate::directive::{Directive, Effect, Place, Target};
use crate::group::literal_group;
use crate::words::Words;

mod auth;
mod daemon;
mod interpreters;
mod mapping;
mod pools;
mod python;
mod requests;
mod telemetry;

const TOPICS: [&[Directive]; 8] = [
    mapping::DIRECTIVES,
    requests::DIRECTIVES,
    python::DIRECTIVES,
    auth::DIRECTIVES,
    daemon::DIRECTIVES,
    telemetry::DIRECTIVES,
    interpreters::DIRECTIVES,
    pools::DIRECTIVES,
];

/// All topics, one after the other.
pub(crate) static TABLE: [Directive; COUNT] = {
    let mut table = [TOPICS[0][0]; COUNT];
    let (mut topic, mut row, mut at) = (0, 0, 0);
    while topic < TOPICS.len() {
        while row < TOPICS[topic].len() {
            table[at] = TOPICS[topic][row];
            row += 1;
            at += 1;
        }
        topic += 1;
        row = 0;
    }
    table
};

const COUNT: usize = {
    let (mut topic, mut count) = (0, 0);
    while topic < TOPICS.len() {
        count += TOPICS[topic].len();
        topic += 1;
    }
    count
};

/// What most rows share: On or Off for the main server, in effect.
const ON_OFF: Directive = Directive {
    name: "",
    place: Place::Global,
    in_container: false,
    container: false,
    syntax: "On|Off",
    default: "Off",
    help: "",
    effect: Effect::Now,
    parse: |args, _| on_off(args).map(drop),
};

impl<'a> Target<'a> {
    /// Where a value of a directory goes.
    fn place(&mut self) -> Result<&mut PlaceConfig, String> {
        match self {
            Target::Server(server) => Ok(&mut server.place),
            Target::Place(place) => Ok(place),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }

    /// Where a value of a server goes.
    fn server(&mut self) -> Result<&mut ServerConfig, String> {
        match self {
            Target::Server(server) => Ok(server),
            Target::Place(_) => Err("not allowed in a directory or location".into()),
            Target::Options(_) => Err("not allowed in <WSGIInterpreterOptions>".into()),
        }
    }
}

/// The only word of `args`.
fn one(args: &str) -> Result<String, String> {
    let mut words = Words::new(args);
    match (words.next(), words.count()) {
        (Some(word), 0) => Ok(word),
        (None, _) => Err("takes one argument, and there is none".into()),
        (_, more) => Err(format!("takes one argument, not {}", more + 1)),
    }
}

/// The only word of `args` as On or Off, in any case.
fn on_off(args: &str) -> Result<bool, String> {
    parse_on_off(&one(args)?)
}

fn parse_on_off(word: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{word}' is neither On nor Off")),
    }
}

/// The only word of `args` as a number of seconds that `permitted` accepts and `kind` describes.
fn seconds(args: &str, kind: &str, permitted: fn(f64) -> bool) -> Result<f64, String> {
    let word = one(args)?;
    let number = word
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && permitted(*number));
    number.ok_or_else(|| format!("'{word}' is not {kind} of seconds"))
}

/// Takes the next option, or says what stands there instead.
fn option<'a>(words: &mut Words<'a>) -> Result<(&'a str, String), String> {
    words
        .option()
        .ok_or_else(|| format!("'{}' is not of the form option=value", words.rest()))
}

/// The name of a group as the value of `option`; it may not be empty.
fn group_name(option: &str, value: String) -> Result<String, String> {
    if value.is_empty() {
        return Err(format!("{option}= lacks a name"));
    }
    Ok(literal_group(value))
}

/// Takes the path of a script.
fn script_path(words: &mut Words<'_>) -> Result<String, String> {
    let path = words.next().filter(|path| !path.is_empty());
    path.ok_or_else(|| "the path of the script is missing".into())
}

fn unknown_option(name: &str, permitted: &str) -> String {
    format!("'{name}' is not an option here; permitted are {permitted}")
}

/// A script and nothing but `application-group=` after it.
fn auxiliary_script(args: &str) -> Result<AuxiliaryScript, String> {
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
