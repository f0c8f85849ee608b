//! The most recent slow, refused and timed-out requests: a ring that any child writes to.
//!
//! Writers do not wait for each other. A writer that is held up while the ring wraps may write to the same entry as
//! another one, and a killed writer leaves half an entry. So each entry has a checksum over its content and its number,
//! and readers skip entries whose checksum does not match.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::catalogue::fnv;
use crate::clock;
use crate::segment::App;
use crate::segment::Segment;
use crate::segment::layout::{EVENTS, header};
use crate::segment::text;

/// Why a request is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Notable {
    /// The request took longer than the limit of `WSGISlowRequests`.
    Slow = 0,
    /// The request was refused before the application was called; holds the number of the reason in
    /// [`crate::catalogue::REJECTION`].
    Rejected(u8) = 1,
    /// The request exceeded a time limit; holds the number of the stage in [`crate::catalogue::TIMEOUT_STAGE`].
    TimedOut(u8) = 2,
}

/// A notable request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix time at which the request ended, nanoseconds.
    pub at: u64,
    /// Why the request is noted.
    pub why: Notable,
    /// Application.
    pub app: App,
    /// Number of the method in [`crate::catalogue::METHOD`].
    pub method: usize,
    /// HTTP status; 0 if none was sent.
    pub status: u16,
    /// Process id.
    pub pid: u32,
    /// Duration of the whole request, nanoseconds.
    pub total: u64,
    /// Time inside the application, nanoseconds.
    pub application: u64,
    /// Time of waiting for the GIL, nanoseconds.
    pub gil_wait: u64,
    /// Time of reading the body, nanoseconds.
    pub input: u64,
    /// Time of sending the response, nanoseconds.
    pub output: u64,
    /// Path of the URL.
    pub url: String,
}

const CHECK: usize = 0;
/// The words of an event: end, reason, durations, process.
const WORDS: std::ops::Range<usize> = 1..9;
const URL: std::ops::Range<usize> = 16..49;

/// Returns the checksum of event number `ticket`.
fn check(ticket: u64, words: [u64; 8], url: &[u8]) -> u64 {
    let hash = words.iter().fold(ticket.wrapping_add(1), |hash, word| {
        fnv(hash, &word.to_le_bytes())
    });
    fnv(hash, url)
}

impl Segment {
    /// Notes a request. Sets the end (`event.at`) itself.
    pub fn note(&self, event: &Event, url: &[u8]) {
        let ticket = self.cells()[header::EVENTS].fetch_add(1, Relaxed);
        let cells = self.event_cells((ticket % EVENTS as u64) as usize);
        let (kind, detail) = match event.why {
            Notable::Slow => (0, 0),
            Notable::Rejected(reason) => (1, reason),
            Notable::TimedOut(stage) => (2, stage),
        };
        let what = u64::from(event.app.number()) << 48
            | u64::from(event.status) << 32
            | (event.method as u64 & 0xff) << 16
            | u64::from(detail) << 8
            | kind;
        let words = [
            clock::unix(),
            what,
            event.total,
            event.application,
            event.gil_wait,
            event.input,
            event.output,
            event.pid.into(),
        ];
        let url = text::fitting(&cells[URL], url);
        for (cell, word) in cells[WORDS].iter().zip(words) {
            cell.store(word, Relaxed);
        }
        text::put(&cells[URL], url);
        cells[CHECK].store(check(ticket, words, url), Release);
    }

    /// Returns the most recent events, newest first.
    pub fn events(&self) -> Vec<Event> {
        let next = self.cells()[header::EVENTS].load(Acquire);
        let tickets = (1..=EVENTS as u64).map_while(|back| next.checked_sub(back));
        tickets.filter_map(|ticket| self.event(ticket)).collect()
    }

    /// Returns event number `ticket` if it is still in the ring and whole.
    pub(crate) fn event(&self, ticket: u64) -> Option<Event> {
        let cells = self.event_cells((ticket % EVENTS as u64) as usize);
        let expected = cells[CHECK].load(Acquire);
        let words = std::array::from_fn(|at| cells[WORDS.start + at].load(Relaxed));
        let url = text::bytes(&cells[URL]);
        if check(ticket, words, &url) != expected {
            return None;
        }
        let [at, what, total, application, gil_wait, input, output, pid] = words;
        let detail = (what >> 8) as u8;
        Some(Event {
            at,
            why: match what as u8 {
                1 => Notable::Rejected(detail),
                2 => Notable::TimedOut(detail),
                _ => Notable::Slow,
            },
            app: App::new((what >> 48) as u16),
            method: (what >> 16) as u8 as usize,
            status: (what >> 32) as u16,
            pid: u32::try_from(pid).unwrap_or(0),
            total,
            application,
            gil_wait,
            input,
            output,
            url: text::shown(&url),
        })
    }
}
