//! The identity of an application: its number in the table, and its value of the label `app`.

use crate::catalogue::fnv;

/// Number of an application in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct App(u16);

impl App {
    /// `_other`: the applications for which the table had no entry left.
    pub const OTHER: App = App(0);

    /// Returns the application with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns the number of the application.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Returns the value of the label `app` for `text`: at most 64 characters that need no escaping anywhere. If that loses
/// something, a hash of the whole text keeps different texts apart.
pub fn label_of(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_./:|-".contains(c);
    let clean: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    if clean == text && clean.len() <= 64 && !clean.is_empty() && clean != "_other" {
        return clean;
    }
    let hash = fnv(0xcbf2_9ce4_8422_2325, text.as_bytes());
    // The end of a path is more specific than its beginning.
    let tail = &clean[clean.len().saturating_sub(57)..];
    format!("{tail}-{:06x}", hash & 0xff_ffff)
}
