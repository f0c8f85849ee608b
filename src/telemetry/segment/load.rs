//! The load of the processes of a group, by which a child of httpd chooses one.

use std::sync::atomic::Ordering::Relaxed;

use super::Segment;
use super::layout::header;
use crate::sync::AtomicU64;

/// How many requests the process of a slot has. The process writes it, and each child of httpd reads it: it decides
/// nothing but which process gets a request.
#[derive(Clone, Copy)]
pub struct Load(&'static AtomicU64);

impl Segment {
    /// Returns the load of a slot, in the segment of a process group; `None` for a slot beyond the first 256.
    pub fn load_of(&self, slot: usize) -> Option<Load> {
        let cells = self.words(header::LOADS, header::MOST_LOADS);
        cells.get(slot).map(Load)
    }
}

impl Load {
    /// Returns the number of requests.
    pub fn get(self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Notes that the slot has no process, so that requests go to other slots. For the supervisor.
    pub fn set_empty(self) {
        self.0.store(u64::MAX, Relaxed);
    }

    /// Sets the number of requests. For the process that has them.
    pub fn set(self, requests: u64) {
        self.0.store(requests, Relaxed);
    }
}
