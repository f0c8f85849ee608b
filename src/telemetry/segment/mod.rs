//! The memory: its layout, its arenas and their writers, and its table of applications.

pub(crate) mod app;
pub(crate) mod applications;
pub(crate) mod arena;
pub(crate) mod entry;
pub(crate) mod layout;
pub(crate) mod load;
pub(crate) mod mapped;
#[cfg_attr(loom, path = "../loom/memory.rs")]
pub mod memory;
pub(crate) mod owner;
#[cfg(not(loom))]
pub mod published;
pub(crate) mod text;

pub use app::{App, label_of};
pub use applications::Application;
pub use arena::{Arena, Block};
pub use entry::Role;
pub use layout::Geometry;
pub use load::Load;
pub use mapped::{Fact, Mismatch, Segment};
pub use owner::Owner;
