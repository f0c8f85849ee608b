//! Finds sentences that are not plain: the subject comes first, and each thing is called by its name.

use super::text::Text;
use super::{Finding, Rule};
use regex::Regex;
use std::collections::HashSet;
use std::sync::LazyLock;

/// Forms that a reader has to decode, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    // "Who" is English for a person: see `PEOPLE`.
    (
        r"(^|[\s(])[Ww]ho\b",
        "the thing by its name: thread, child, request, client, process",
    ),
    (
        r"\b[Ww]hoever\b",
        "the thing by its name: thread, child, request, client, process",
    ),
    (
        r"\b[Ss]o (many|long|much|few)\b",
        "the name of the constant or parameter, or a number",
    ),
    (
        r"\b(is|are|was|were) (not )?to be\b",
        "must be, will be, should be, or the plain verb",
    ),
    (r"\bfor ever\b", "forever, without end, or what ends it"),
    (r"\bgo(es)? home\b", "returns, unwinds, leaves"),
];

/// After these words, "who" speaks of a person.
const PEOPLE: &str = r"\b(anyone|anybody|someone|somebody|person|people|users?|readers?|operators?|administrators?|developers?|visitors?|authors?|contributors?|newcomers?)\s*$";

/// "So many" is English if its measure follows.
const MEASURED: &str = r"^([^.;:]{0,90}\s+that\b|(\s+[\w-]+){0,5}\s+as\b)";

/// Places in which a banned form stays: path, words of the line, and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("xtask/layout/words.rs", "", "the list itself"),
    ("docs/glossary.md", "", "names the forms that are not used"),
];

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    BANNED
        .iter()
        .map(|(form, instead)| (regex(form), *instead))
        .collect()
});
static PEOPLE_BEFORE: LazyLock<Regex> = LazyLock::new(|| regex(PEOPLE));
static MEASURE_BEHIND: LazyLock<Regex> = LazyLock::new(|| regex(MEASURED));
static CODE: LazyLock<Regex> = LazyLock::new(|| regex("`[^`]*`"));

fn regex(form: &str) -> Regex {
    Regex::new(form).expect("a constant of this file, which a test compiles")
}

pub(crate) fn findings(texts: &[Text]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for text in texts {
        // Code is replaced by text of the same length, so that positions stay right.
        let plain = CODE.replace_all(&text.text, |code: &regex::Captures<'_>| {
            code[0]
                .chars()
                .map(|character| {
                    if character == '\n' {
                        "\n".into()
                    } else {
                        "x".repeat(character.len_utf8())
                    }
                })
                .collect::<String>()
        });
        for (at, instead) in banned(&plain) {
            let place = text.at(at);
            let line = line_of(&text.text, at);
            let path = text.path.to_string_lossy();
            let is_allowed = ALLOWED
                .iter()
                .any(|(file, words, _)| path == *file && line.contains(words));
            if !is_allowed && seen.insert((place.clone(), instead)) {
                let finding = format!(
                    "{place}: {line}
    instead: {instead}"
                );
                found.push(Finding::new(Rule::Sentences, finding));
            }
        }
    }
    found
}

/// Returns the positions of banned forms, each with what to write instead.
fn banned(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (form, instead) in RULES.iter() {
        for hit in form.find_iter(text) {
            let begin = hit.start() + hit.as_str().len() - hit.as_str().trim_start().len();
            let hit_word = hit
                .as_str()
                .trim_start()
                .trim_start_matches('(')
                .to_ascii_lowercase();
            let is_english = match hit_word.as_str() {
                "who" => PEOPLE_BEFORE.is_match(&text[..begin]),
                word if word.starts_with("so ") => MEASURE_BEHIND.is_match(&text[hit.end()..]),
                _ => false,
            };
            if !is_english {
                found.push((begin, *instead));
            }
        }
    }
    found
}

fn line_of(text: &str, at: usize) -> &str {
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    &text[begin..end]
}

#[cfg(test)]
mod tests {
    use super::banned;

    #[test]
    fn the_dialect_is_found() {
        for text in [
            "Who is refused leaves.",
            "the thread who waits",
            "At most so many threads.",
            "What is to be sent.",
            "It stays for ever.",
            "whoever has the lock",
            "At most so\nmany.".replace('\n', " ").as_str(),
        ] {
            assert_eq!(banned(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn english_is_not() {
        for text in [
            "A user who asks.",
            "so many requests that memory ends",
            "So many requests fail, in an hour, that users notice.",
            "so long as it runs",
            "the whole",
        ] {
            assert!(banned(text).is_empty(), "{text}");
        }
    }
}
