//! The most recent slow, refused and timed-out requests: a ring that any child writes to.
//!
//! Nobody waits here. A writer that was held up while the ring went round meets another one at the same place, and one
//! that is killed leaves half an entry; so each entry ends with a sum over all of it and over its number, and readers
//! take none whose sum is another.

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
    /// It took longer than `WSGISlowRequests` says.
    Slow = 0,
    /// It was refused before the application was called; with the number of its reason in
    /// [`crate::catalogue::REJECTION`].
    Rejected(u8) = 1,
    /// It exceeded a limit of time; with the number of the stage in [`crate::catalogue::TIMEOUT_STAGE`].
    TimedOut(u8) = 2,
}

/// A request of note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix time of its end, nanoseconds.
    pub at: u64,
    /// Why it is here.
    pub why: Notable,
    /// Application.
    pub app: App,
    /// Number of the method in [`crate::catalogue::METHOD`].
    pub method: usize,
    /// Status; 0 where none was sent.
    pub status: u16,
    /// Process.
    pub pid: u32,
    /// Nanoseconds of the whole request.
    pub total: u64,
    /// Nanoseconds inside the application.
    pub application: u64,
    /// Nanoseconds of waiting for the GIL.
    pub gil_wait: u64,
    /// Nanoseconds of reading the body.
    pub input: u64,
    /// Nanoseconds of sending the response.
    pub output: u64,
    /// Path of its URL.
    pub url: String,
}

const CHECK: usize = 0;
/// Time, reason, times, process.
const WORDS: std::ops::Range<usize> = 1..9;
const URL: std::ops::Range<usize> = 16..49;

/// The sum that event number `ticket` ends with.
fn check(ticket: u64, words: [u64; 8], url: &[u8]) -> u64 {
    let hash = words.iter().fold(ticket.wrapping_add(1), |hash, word| {
        fnv(hash, &word.to_le_bytes())
    });
    fnv(hash, url)
}

impl Segment {
    /// Notes a request; `event.at` is set here.
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

    /// The most recent ones, newest first.
    pub fn events(&self) -> Vec<Event> {
        let next = self.cells()[header::EVENTS].load(Acquire);
        let tickets = (1..=EVENTS as u64).map_while(|back| next.checked_sub(back));
        tickets.filter_map(|ticket| self.event(ticket)).collect()
    }

    /// Event number `ticket`, if it is still there and whole.
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
