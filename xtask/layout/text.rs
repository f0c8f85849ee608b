//! The text that people read: the comments and messages of the sources, and the pages.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A paragraph: consecutive lines of a comment or of a page, or one message.
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// The number of the first line.
    line: usize,
    /// The lines, each trimmed, joined with line ends.
    pub(crate) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Comment,
    Message,
    Page,
}

impl Text {
    /// Returns the place of a byte of the text, as `path:line`.
    pub(crate) fn at(&self, byte: usize) -> String {
        let before = self.text[..byte].matches('\n').count();
        format!("{}:{}", self.path.display(), self.line + before)
    }
}

/// Returns all texts of a checkout, or of one crate in src/.
pub(crate) fn read(root: &Path, only: Option<&str>) -> Result<Vec<Text>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let mut texts = Vec::new();
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let path = PathBuf::from(name);
        let Some(language) = Language::of(&path) else {
            continue;
        };
        if only.is_some_and(|only| !path.starts_with(Path::new("src").join(only)))
            || !root.join(&path).exists()
        {
            continue;
        }
        let source = fs::read_to_string(root.join(&path)).with_context(|| name.to_owned())?;
        let mut reader = Reader {
            path,
            texts: Vec::new(),
        };
        match language {
            Language::Curly => reader.curly(&source),
            Language::Hash => reader.hash(&source),
            Language::Page => reader.page(&source),
        }
        texts.append(&mut reader.texts);
    }
    Ok(texts)
}

#[derive(Clone, Copy)]
enum Language {
    /// Rust and C: `//`, `/* */` and string literals.
    Curly,
    /// Python, shell, configurations: whole lines that begin with `#`, and comments behind two spaces.
    Hash,
    Page,
}

impl Language {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Some(match extension {
            Some("rs" | "c" | "h") => Self::Curly,
            Some("md") => Self::Page,
            Some("py" | "wsgi" | "sh" | "conf" | "toml") => Self::Hash,
            None if path.starts_with("scripts")
                || path.starts_with("benches")
                || path.ends_with("Makefile") =>
            {
                Self::Hash
            }
            _ => return None,
        })
    }
}

struct Reader {
    path: PathBuf,
    texts: Vec<Text>,
}

impl Reader {
    /// Adds a line to the last paragraph, if that ends on the line above, else begins a paragraph.
    fn add(&mut self, kind: Kind, line: usize, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(last) = self.texts.last_mut()
            && kind != Kind::Message
            && last.kind == kind
            && last.line + last.text.matches('\n').count() + 1 == line
        {
            last.text.push('\n');
            last.text.push_str(text);
            return;
        }
        self.texts.push(Text {
            path: self.path.clone(),
            kind,
            line,
            text: text.to_owned(),
        });
    }

    fn page(&mut self, source: &str) {
        let mut is_code = false;
        for (number, line) in source.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                self.add(Kind::Page, number + 1, line);
            }
        }
    }

    fn hash(&mut self, source: &str) {
        for (number, line) in source.lines().enumerate() {
            let trimmed = line.trim_start();
            if let Some(comment) = trimmed.strip_prefix('#') {
                self.add(Kind::Comment, number + 1, comment.trim_start_matches('!'));
            } else if let Some((_, comment)) = line.split_once("  # ") {
                self.add(Kind::Comment, number + 1, comment);
            } else if trimmed.starts_with("say ") || trimmed.contains("die \"") {
                self.add(Kind::Message, number + 1, trimmed);
            }
        }
    }

    /// The comments and string literals of Rust or C.
    fn curly(&mut self, source: &str) {
        let bytes = source.as_bytes();
        let mut at = 0;
        let mut line = 1;
        while at < bytes.len() {
            let rest = &source[at..];
            let begin = line;
            let end = if rest.starts_with("//") {
                let end = rest.find('\n').unwrap_or(rest.len());
                self.add(
                    Kind::Comment,
                    begin,
                    rest[..end].trim_start_matches(['/', '!']),
                );
                end
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
                for (number, line) in rest[..end].lines().enumerate() {
                    let line = line
                        .trim()
                        .trim_start_matches("/*")
                        .trim_end_matches("*/")
                        .trim_start_matches('*');
                    self.add(Kind::Comment, begin + number, line);
                }
                end
            } else if let Some((end, text)) = literal(rest) {
                // An escaped line end, and the indentation of the next line, are not part of the message.
                let lines: Vec<&str> = text
                    .lines()
                    .map(|line| line.trim().trim_end_matches('\\').trim_end())
                    .collect();
                self.add(Kind::Message, begin, &lines.join("\n"));
                end
            } else {
                word(rest)
            };
            line += source[at..at + end].matches('\n').count();
            at += end;
        }
    }
}

/// Returns the length of the string or character literal with which `source` begins, and the content of a string.
fn literal(source: &str) -> Option<(usize, &str)> {
    if let Some(raw) = source.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", &raw[..hashes]);
            let inside = &raw[hashes + 1..];
            let length = inside.find(&close)?;
            return Some((1 + hashes + 1 + length + close.len(), &inside[..length]));
        }
        return None;
    }
    let quote = source
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let mut escaped = false;
    for (at, character) in source.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => {
                let inside = &source[1..at];
                return Some((at + 1, if quote == '"' { inside } else { "" }));
            }
            // This is a lifetime: a character literal would have ended.
            _ if quote == '\'' && at > 1 && !source[1..].starts_with('\\') => return Some((1, "")),
            _ => {}
        }
    }
    Some((1, ""))
}

/// Returns the length of the word, or of the other character, with which `source` begins.
fn word(source: &str) -> usize {
    let is_part = |character: &char| character.is_alphanumeric() || *character == '_';
    match source.find(|character| !is_part(&character)) {
        Some(0) => source.chars().next().map_or(1, char::len_utf8),
        Some(end) => end,
        None => source.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        let mut reader = Reader {
            path: PathBuf::new(),
            texts: Vec::new(),
        };
        reader.curly(source);
        reader.texts.into_iter().map(|text| text.text).collect()
    }

    #[test]
    fn comments_and_messages_are_found_and_code_is_not() {
        let source = "// one\n// two\nfn f<'a>(x: &'a str) { say(\"a \\\"b\\\" // c\", '\"', r#\"d\"e\"#); } /* f */";
        assert_eq!(texts(source), ["one\ntwo", "a \\\"b\\\" // c", "d\"e", "f"]);
    }

    #[test]
    fn a_message_goes_on_after_an_escaped_line_end() {
        assert_eq!(texts("say(\"so \\\n      many\")"), ["so\nmany"]);
    }
}
