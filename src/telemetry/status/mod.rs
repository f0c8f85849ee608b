//! The state of the server for people: a page, JSON, text for a terminal, and a block in `server-status`.
//!
//! [`Status::new`] computes everything from a [`Snapshot`](crate::Snapshot) and the history; the renderers only write
//! it down. The most important things come first: the reader may be in trouble, at night.

mod details;
#[cfg(test)]
pub(crate) mod fixture;
mod fragment;
mod health;
mod html;
mod make;
mod model;
mod roll;
mod sections;
mod spark;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod units;

pub use fragment::{render_auto, render_html_fragment};
pub use html::{CONTENT_SECURITY_POLICY, render_html};
pub use model::{
    ApplicationStatus, ChildStatus, DeathStatus, EventStatus, Finding, GroupStatus, Health, Level,
    Point, RequestStatus, RollStatus, SegmentUse, ServerStatus, Status, Totals, Window, Workers,
};
pub use text::{TextStyle, render_text};
pub use units::{date_and_time, duration};

/// Returns the status as JSON. The field names are those of [`Status`]; they include units and do not change.
pub fn render_json(status: &Status) -> String {
    // This cannot fail: the keys of maps are text, and every value can be serialized.
    serde_json::to_string(status).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
