//! The state of the server for people: as a page, as JSON, as text for a terminal, as a block in `server-status`.
//!
//! [`Status::new`] works everything out from a [`Snapshot`](crate::Snapshot) and the history; what renders it only
//! writes it down. Most important things come first: this is read by somebody in trouble, at night.

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

/// The status as JSON. The field names are those of [`Status`]; they hold their units and stay.
pub fn render_json(status: &Status) -> String {
    // Maps have text for keys and no value refuses to be written, so this cannot fail.
    serde_json::to_string(status).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
