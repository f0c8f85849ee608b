//! The page that a scrape gets: the families in the order of the catalogue, then the applications' own metrics.
//!
//! Every child can write to the segment, so it may hold anything. Names and numbers are only printed if they are valid,
//! and no two series of a page are the same.

mod custom;
mod derived;
mod negotiate;
mod page;
mod render;

pub use negotiate::{Format, negotiate};
pub use render::render;
