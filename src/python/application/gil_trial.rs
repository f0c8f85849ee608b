//! Whether the applications of a group can be loaded into interpreters with their own GIL. A group whose GIL mode is
//! `auto` finds this out by trying.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wsgi_abi::GilDecision;
use wsgi_core::messages::Message;

use crate::host::{self, level_of};

/// The trial of one group.
pub(crate) struct GilTrial {
    group: Vec<u8>,
    /// How many interpreters the group has.
    interpreters: usize,
    /// Whether the answer is not known yet.
    is_open: AtomicBool,
    /// Whether the group moves to the main interpreter if its applications refuse others.
    may_fall_back: bool,
}

impl GilTrial {
    pub(crate) fn new(
        group: &[u8],
        interpreters: usize,
        is_open: bool,
        may_fall_back: bool,
    ) -> Self {
        Self {
            group: group.to_vec(),
            interpreters,
            is_open: AtomicBool::new(is_open),
            may_fall_back,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    pub(crate) fn may_fall_back(&self) -> bool {
        self.may_fall_back
    }

    /// Notes that an application of the group was loaded into an interpreter with its own GIL.
    pub(crate) fn loaded(&self) {
        if self.is_open.swap(false, Relaxed) {
            host::gil_decided(&self.group, GilDecision::Own, b"");
            let shown = String::from_utf8_lossy(&self.group);
            let line = Message::OwnGilChosen.line(&[&shown, &self.interpreters]);
            host::log(level_of(Message::OwnGilChosen), &line);
        }
    }

    /// Notes that an application of the group could not be loaded, for a reason unrelated to the GIL.
    pub(crate) fn undecided(&self) {
        if self.is_open() {
            host::gil_decided(&self.group, GilDecision::Unknown, b"");
        }
    }

    /// Notes that an application of the group refuses interpreters with their own GIL.
    pub(crate) fn refused(&self) {
        self.is_open.store(false, Relaxed);
    }
}
