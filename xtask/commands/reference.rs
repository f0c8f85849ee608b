//! Writes the generated pages of `docs/`: one entry for each directive, and one for each numbered message.

use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use wsgi_core::directives::{Context, Directive, Effect, TOPICS};
use wsgi_core::messages::Message;

/// Writes the pages into `docs/` of the checkout.
pub(crate) fn run(root: &Path) -> Result<()> {
    for (name, text) in pages() {
        let file = root.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Name and text of each page.
fn pages() -> [(&'static str, String); 2] {
    [
        ("docs/directives.md", directives()),
        ("docs/messages.md", messages()),
    ]
}

fn directives() -> String {
    let mut page = String::from(
        "# Directives\n\n\
         <!-- Written by `cargo xtask reference` from src/core/directives/. Edit the rows there. -->\n\n\
         All directives of mod_wsgi 6, and those of mod_wsgi_rs. `httpd -t` reports all mistakes at once, with file and \
         line. Each example loads as it stands.\n\n\
         A *context* is where httpd takes a directive: in the server configuration, in `<VirtualHost>`, in a directory \
         (`<Directory>`, `<Location>`, `<Files>`), in `.htaccess`, or in `<WSGIInterpreterOptions>`. The innermost value \
         holds.\n",
    );
    for (topic, rows) in TOPICS {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "\n* {topic}:");
        let links: Vec<String> = rows
            .iter()
            .map(|row| format!("[{}](#{})", escaped(&row.shown_name()), anchor(row)))
            .collect();
        let _ = writeln!(page, "  {}", links.join(", "));
    }
    for (topic, rows) in TOPICS {
        let _ = writeln!(page, "\n## {topic}");
        for row in *rows {
            directive(&mut page, row);
        }
    }
    page
}

fn directive(page: &mut String, row: &Directive) {
    let name = row.shown_name();
    let _ = writeln!(page, "\n### {}\n\n{}\n", escaped(&name), escaped(row.help));
    let syntax = match row.container {
        true => format!("{} {}> ... </{}>", row.name, row.syntax, &row.name[1..]),
        false => format!("{} {}", row.name, row.syntax),
    };
    let _ = writeln!(page, "* **Syntax:** `{syntax}`");
    match row.default {
        "" => page.push_str("* **Default:** none\n"),
        default => {
            let _ = writeln!(page, "* **Default:** {}", escaped(default));
        }
    }
    let _ = writeln!(page, "* **Context:** {}", context(row));
    let effect = match row.effect {
        Effect::Now => String::new(),
        Effect::Later(text) => format!("Not in effect yet: {text}."),
        Effect::ManyProcesses => {
            "No effect under `httpd -X`, whose only process serves all requests.".into()
        }
        Effect::Nothing(text) => format!("Without effect: {text}."),
    };
    let difference = [row.difference, &effect].map(escaped).join(" ");
    match difference.trim() {
        "" => page.push_str("* **Difference to mod_wsgi:** none\n"),
        text => {
            let _ = writeln!(page, "* **Difference to mod_wsgi:** {text}");
        }
    }
    let _ = writeln!(page, "\n```apache\n{}\n```", row.example);
}

fn context(row: &Directive) -> String {
    let mut context = String::from(match row.context {
        Context::Global => "server configuration",
        Context::Server => "server configuration, virtual host",
        Context::Directory => "server configuration, virtual host, directory",
        Context::FileInfo => {
            "server configuration, virtual host, directory, .htaccess (AllowOverride FileInfo)"
        }
        Context::AuthConfig => {
            "server configuration, virtual host, directory, .htaccess (AllowOverride AuthConfig)"
        }
    });
    if row.in_container {
        context.push_str(", `<WSGIInterpreterOptions>`");
    }
    context
}

fn messages() -> String {
    let mut page = String::from(
        "# Messages\n\n\
         <!-- Written by `cargo xtask reference` from src/core/messages.rs. Edit the rows there. -->\n\n\
         Each warning and error in the log begins with a number, `WSGI1013` for one. The numbers below 1000 are mod_wsgi's; \
         those of mod_wsgi_rs begin at 1001. A number never gets another meaning. `wsgictl explain 1013` shows the entry of \
         a message. In the texts, `{}` stands for a value.\n",
    );
    for message in Message::ALL {
        let _ = write!(
            page,
            "\n## WSGI{:04}\n\n```\n{}\n```\n\n* **Level:** {}\n* **Cause:** {}\n\
             * **What follows:** {}\n* **Remedy:** {}\n",
            message.number(),
            message.text(),
            message.level().name(),
            escaped(message.cause()),
            escaped(message.follows()),
            escaped(message.remedy()),
        );
    }
    page
}

/// Escapes text so that Markdown finds no markup in it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '<' | '>' | '*' | '_' | '[' | ']' | '`' | '|' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Returns the anchor of a heading that is the name of a directive.
fn anchor(row: &Directive) -> String {
    row.name.trim_start_matches('<').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let stale: Vec<_> = pages()
            .into_iter()
            .filter(|(name, text)| fs::read_to_string(root.join(name)).ok().as_ref() != Some(text))
            .map(|(name, _)| name)
            .collect();
        assert!(
            stale.is_empty(),
            "not what the generator makes: {stale:?}; run `cargo xtask reference` and commit"
        );
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escaped("<a_b> *c*"), "\\<a\\_b\\> \\*c\\*");
    }
}
