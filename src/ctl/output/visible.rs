//! Escaping of text chosen by a client, an application or another user, so that a terminal shows it and does not obey
//! it.
//!
//! [`terminal`](crate::output::terminal) and [`messages`](crate::output::messages) escape everything that they print,
//! except metrics into files and pipes, which programs read.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes everything but line feeds that a terminal would obey or not show, as in `\u{1b}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', |out, c| out.extend(c.escape_unicode()))
}

/// Does the same, but keeps our own colours.
pub(crate) fn visible_but_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return visible(text);
    }
    let mut parts = text.split('\u{1b}');
    let mut out = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        match part.find('m').map(|end| part.split_at(end + 1)) {
            Some((code, rest)) if is_colour(code) => {
                out.push('\u{1b}');
                out.push_str(code);
                out.push_str(&visible(rest));
            }
            _ => {
                out.push_str("\\u{1b}");
                out.push_str(&visible(part));
            }
        }
    }
    Cow::Owned(out)
}

/// Returns whether `code` is one of our own colours, after the escape character: bold, dim, red, green, yellow, reset.
fn is_colour(code: &str) -> bool {
    matches!(code, "[0m" | "[1m" | "[2m" | "[1;31m" | "[1;32m" | "[1;33m")
}

/// Escapes JSON without changing its meaning.
pub(crate) fn visible_json(text: &str) -> Cow<'_, str> {
    // Outside of strings, JSON is plain ASCII.
    let unit = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` does not fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escaped(text, |c| c == '\n', unit)
}

/// Escapes a line of another program's output. Bytes that are not UTF-8 are written as `\x9b`.
pub(crate) fn visible_line(line: &[u8]) -> String {
    let mut out = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        let kept = |c| matches!(c, '\n' | '\t');
        let text = escaped(chunk.valid(), kept, |out, c| out.extend(c.escape_unicode()));
        out.push_str(&text);
        for byte in chunk.invalid() {
            // As above.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn escaped(
    text: &str,
    kept: impl Fn(char) -> bool,
    mut escape: impl FnMut(&mut String, char),
) -> Cow<'_, str> {
    let is_meant = |c: char| is_obeyed(c) && !kept(c);
    if !text.contains(is_meant) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_meant(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns whether `c` is a control character (C0, DEL, C1), changes the direction of text, or has no width.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(
            visible("a\u{1b}[2J\rb\tc\u{9b}\u{202e}é\n\u{7f}\u{200b}\u{0}"),
            "a\\u{1b}[2J\\u{d}b\\u{9}c\\u{9b}\\u{202e}é\n\\u{7f}\\u{200b}\\u{0}"
        );
        assert!(matches!(visible("plain, ä, 漢字\n"), Cow::Borrowed(_)));
        let all: String = ('\0'..=char::MAX).filter(|c| *c != '\n').collect();
        let shown = visible(&all);
        assert!(!shown.chars().any(is_obeyed));
    }

    #[test]
    fn colours_of_our_own_stay_and_no_other_sequence() {
        let text = "\u{1b}[1;31mTrouble\u{1b}[0m  /x\u{1b}]0;title\u{7}\u{1b}[8mhidden\u{1b}[31";
        assert_eq!(
            visible_but_colours(text),
            "\u{1b}[1;31mTrouble\u{1b}[0m  /x\\u{1b}]0;title\\u{7}\\u{1b}[8mhidden\\u{1b}[31"
        );
        assert_eq!(visible_but_colours("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = "a\u{7f}\u{9b}\u{202e}\u{e0001}é";
        let json = serde_json::to_string(text).expect("JSON");
        let shown = visible_json(&json);
        assert_eq!(shown, "\"a\\u007f\\u009b\\u202e\\udb40\\udc01é\"");
        let back: String = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(back, text);
    }

    #[test]
    fn lines_of_others_keep_tabs_and_show_bytes() {
        assert_eq!(
            visible_line(b"\tat\x1b[31m \x9b0m \xc2\x9b \xc3\xa9\n"),
            "\tat\\u{1b}[31m \\x9b0m \\u{9b} é\n"
        );
    }
}
