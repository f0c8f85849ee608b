//! The page that a scrape gets: family by family in the order of the catalogue, then the applications' own metrics.
//!
//! What comes from the segment may be anything, since every child can write there: names and numbers are only printed
//! as what they should be, and no two series of a page are the same.

mod custom;
mod derived;
mod negotiate;
mod page;
mod render;

pub use negotiate::{Format, negotiate};
pub use render::render;
