//! What little YAML needs.

/// The first line of each file made here.
pub(crate) const GENERATED: &str =
    "# Made by `cargo run -p wsgi-dashboards`: edit dashboards/generator instead.\n";

/// A string that holds anything but line ends.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
