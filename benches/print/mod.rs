//! Figures for a person: tables, what stands around them, and whether targets are met.

pub(crate) mod report;
pub(crate) mod table;
pub(crate) mod verdict;
