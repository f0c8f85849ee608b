//! Splits a configuration line into words and options as httpd's `ap_getword_conf` does, because the paths and patterns
//! in existing configurations are quoted for it.

/// The rest of a line, from which the iterator takes words.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Makes an iterator over the words of `line`.
    pub fn new(line: &'a str) -> Words<'a> {
        Words {
            rest: skip_space(line),
        }
    }

    /// Takes the next `name=value`, whose value may be quoted. Returns `None` if the rest does not begin with one.
    pub fn option(&mut self) -> Option<(&'a str, String)> {
        let end = self.rest.find(|c: char| c == '=' || is_space(c))?;
        if end == 0 || !self.rest[end..].starts_with('=') {
            return None;
        }
        let name = &self.rest[..end];
        self.rest = skip_space(&self.rest[end + 1..]);
        Some((name, self.next().unwrap_or_default()))
    }

    /// Returns what has not been taken, without leading space.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Returns whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    /// Takes the next word. A quoted empty word is a word; an unclosed quote ends with the line.
    fn next(&mut self) -> Option<String> {
        let first = self.rest.chars().next()?;
        let (word, rest) = if first == '"' || first == '\'' {
            let (inside, rest) = split_quoted(&self.rest[1..], first);
            (unescape(inside, Some(first)), rest)
        } else {
            let end = self.rest.find(is_space).unwrap_or(self.rest.len());
            (unescape(&self.rest[..end], None), &self.rest[end..])
        };
        self.rest = skip_space(rest);
        Some(word)
    }
}

/// Returns the text before the closing quote and the text after it.
fn split_quoted(text: &str, quote: char) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            // Only these two are escapes; any other backslash is an ordinary character before `c`.
            escaped = false;
            if c == quote || c == '\\' {
                continue;
            }
        }
        if c == quote {
            return (&text[..at], &text[at + 1..]);
        }
        escaped = c == '\\';
    }
    (text, "")
}

fn unescape(text: &str, quote: Option<char>) -> String {
    let mut word = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next) if c == '\\' && (next == '\\' || Some(next) == quote) => {
                word.push(next);
                chars.next();
            }
            _ => word.push(c),
        }
    }
    word
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// C's `isspace`.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Vec<String> {
        Words::new(line).collect()
    }

    #[test]
    fn words_are_split_as_httpd_does() {
        for (line, expected) in [
            ("", vec![]),
            ("  \t ", vec![]),
            ("a b\tc ", vec!["a", "b", "c"]),
            (r#""a b" c"#, vec!["a b", "c"]),
            (r#"'a "b' c"#, vec![r#"a "b"#, "c"]),
            (r#""" x"#, vec!["", "x"]),
            (r#""a\"b\\c""#, vec![r#"a"b\c"#]),
            (r#""a\nb""#, vec![r"a\nb"]),
            (r"a\\b", vec![r"a\b"]),
            (r#"a\"b"#, vec![r#"a\"b"#]),
            (r#""open end"#, vec!["open end"]),
            (r#""a"b"#, vec!["a", "b"]),
            (r#"^/a\.b(.*)$ /t$1"#, vec![r"^/a\.b(.*)$", "/t$1"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn options_are_name_and_value() {
        let mut line = Words::new(r#"/u /f a=1  b="x y" c= d"#);
        assert_eq!(line.next().as_deref(), Some("/u"));
        assert_eq!(line.next().as_deref(), Some("/f"));
        assert_eq!(line.option(), Some(("a", "1".into())));
        assert_eq!(line.option(), Some(("b", "x y".into())));
        assert_eq!(line.option(), Some(("c", "d".into())));
        assert!(line.is_empty());
    }

    #[test]
    fn what_is_no_option_is_left_where_it_was() {
        for line in ["word", "=value", "name =value", ""] {
            let mut words = Words::new(line);
            assert_eq!(words.option(), None, "{line}");
            assert_eq!(words.rest(), line);
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_quoting(text in ".*") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(words(&quoted), vec![text]);
        }

        #[test]
        fn no_line_panics(line in ".*") {
            let mut rest = Words::new(&line);
            while rest.option().is_some() || rest.next().is_some() {}
        }
    }
}
