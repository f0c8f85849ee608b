//! Messages of `wsgictl` itself. They go to standard error, because standard output is the access log.

use std::io::Write;

use anstyle::{AnsiColor, Style};

use crate::output::failure::Failure;
use crate::output::visible::visible;

/// Prints the failure for which `wsgictl` gives up.
pub(crate) fn failure(failure: &Failure) {
    let red = AnsiColor::Red.on_default();
    let text = failure.to_string();
    print(&format!("{red}wsgictl:{red:#} {}", visible(&text)));
}

/// Prints a summary of the server, with commands to try next: a title, and rows of labels and values.
pub(crate) fn summary(title: &str, rows: &[(&str, String)]) {
    let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    print(&format!("\n{bold}{}{bold:#}\n", visible(title)));
    for (label, value) in rows {
        print(&format!("  {dim}{label:width$}{dim:#}  {}", visible(value)));
    }
    print("");
}

/// Prints one line.
pub(crate) fn line(text: &str) {
    print(&visible(text));
}

/// Prints text that has been escaped. Its own colours appear on a terminal that shows them, unless `NO_COLOR` is set. A
/// closed standard error does not stop serving.
fn print(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}
