//! The most recent slow, refused and timed-out requests: a ring that any child writes to.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use crate::applications::App;
use crate::layout::{EVENTS, header};
use crate::segment::Segment;
use crate::{clock, text};

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

const SEQUENCE: usize = 0;
const AT: usize = 1;
const WHAT: usize = 2;
const TOTAL: usize = 3;
const APPLICATION: usize = 4;
const GIL_WAIT: usize = 5;
const INPUT: usize = 6;
const OUTPUT: usize = 7;
const PID: usize = 8;
const URL: std::ops::Range<usize> = 16..49;

impl Segment {
    /// Notes a request; `event.at` is set here.
    pub fn note(&self, event: &Event, url: &[u8]) {
        let ticket = self.cells()[header::EVENTS].fetch_add(1, Relaxed);
        let cells = self.event_cells((ticket % EVENTS as u64) as usize);
        // Odd while it is written, and another number for each event.
        cells[SEQUENCE].store(ticket.wrapping_mul(2) | 1, Relaxed);
        fence(Release);
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
            (AT, clock::unix()),
            (WHAT, what),
            (TOTAL, event.total),
            (APPLICATION, event.application),
            (GIL_WAIT, event.gil_wait),
            (INPUT, event.input),
            (OUTPUT, event.output),
            (PID, event.pid.into()),
        ];
        for (at, word) in words {
            cells[at].store(word, Relaxed);
        }
        text::put(&cells[URL], url);
        cells[SEQUENCE].store(ticket.wrapping_mul(2).wrapping_add(2), Release);
    }

    /// The most recent ones, newest first.
    pub fn events(&self) -> Vec<Event> {
        let next = self.cells()[header::EVENTS].load(Acquire);
        let tickets = (1..=EVENTS as u64).map_while(|back| next.checked_sub(back));
        tickets.filter_map(|ticket| self.event(ticket)).collect()
    }

    fn event(&self, ticket: u64) -> Option<Event> {
        let cells = self.event_cells((ticket % EVENTS as u64) as usize);
        let whole = ticket.wrapping_mul(2).wrapping_add(2);
        if cells[SEQUENCE].load(Acquire) != whole {
            return None;
        }
        let word = |at: usize| cells[at].load(Relaxed);
        let what = word(WHAT);
        let detail = (what >> 8) as u8;
        let event = Event {
            at: word(AT),
            why: match what as u8 {
                1 => Notable::Rejected(detail),
                2 => Notable::TimedOut(detail),
                _ => Notable::Slow,
            },
            app: App::new((what >> 48) as u16),
            method: (what >> 16) as u8 as usize,
            status: (what >> 32) as u16,
            pid: u32::try_from(word(PID)).unwrap_or(0),
            total: word(TOTAL),
            application: word(APPLICATION),
            gil_wait: word(GIL_WAIT),
            input: word(INPUT),
            output: word(OUTPUT),
            url: text::get(&cells[URL]),
        };
        fence(Acquire);
        (cells[SEQUENCE].load(Relaxed) == whole).then_some(event)
    }
}
