//! Output: failures with their remedies, messages, the terminal, and escaping of text that a terminal would obey.

pub(crate) mod failure;
pub(crate) mod messages;
pub(crate) mod terminal;
pub(crate) mod visible;
