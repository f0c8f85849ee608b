//! Output for people: tables, the lines around them, and whether targets are met.

pub(crate) mod report;
pub(crate) mod table;
pub(crate) mod verdict;
