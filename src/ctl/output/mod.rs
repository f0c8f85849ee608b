//! What `wsgictl` prints: failures with their remedies, messages, the terminal, and text that a terminal does not obey.

pub(crate) mod failure;
pub(crate) mod messages;
pub(crate) mod terminal;
pub(crate) mod visible;
