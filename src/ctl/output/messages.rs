//! Everything that `wsgictl` itself says; it goes to standard error, since standard output is the access log.

use std::io::{IsTerminal, Write};

use crate::output::failure::Failure;
use crate::output::visible::visible;

/// One message about why `wsgictl` gives up.
pub(crate) fn failure(failure: &Failure) {
    let painter = Painter::of_stderr();
    let text = failure.to_string();
    print(&format!("{} {}", painter.red("wsgictl:"), visible(&text)));
}

/// What is being served, how, and what to try next: labels and what stands beside them.
pub(crate) fn summary(title: &str, rows: &[(&str, String)]) {
    let painter = Painter::of_stderr();
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    print(&format!("\n{}\n", painter.bold(&visible(title))));
    for (label, value) in rows {
        print(&format!(
            "  {}  {}",
            painter.dim(&format!("{label:width$}")),
            visible(value)
        ));
    }
    print("");
}

/// One line.
pub(crate) fn line(text: &str) {
    print(&visible(text));
}

/// What has been made visible. A reader who has gone away is no reason to stop serving.
fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Colours, on a terminal that wants them.
struct Painter {
    colours: bool,
}

impl Painter {
    fn of_stderr() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Painter {
            colours: wanted && able && std::io::stderr().is_terminal(),
        }
    }

    fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
