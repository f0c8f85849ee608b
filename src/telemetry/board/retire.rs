//! The reasons for which children retire.

use crate::catalogue::RECYCLE_REASON;

/// Why a child must retire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetireReason {
    /// A source file has changed.
    SourceChanged = 0,
    /// The file of `WSGIReload touch` was touched.
    Touched = 1,
    /// An application, `wsgictl` or another process asked for a reload.
    Api = 2,
    /// The child has served its maximum of requests.
    MaxRequests = 3,
    /// The child uses more memory than it may.
    Memory = 4,
    /// The child is older than it may be.
    Age = 5,
    /// A request went on for too long after its deadline.
    RequestTimeout = 6,
    /// A GIL could not be acquired for too long.
    Deadlock = 7,
    /// An application was not loaded in time, or Python did not start.
    StartupTimeout = 8,
    /// The process of a group has used the CPU time that it may use.
    CpuTime = 9,
    /// The process of a group may open no more files.
    Descriptors = 10,
}

impl RetireReason {
    /// Whether a child marks itself for this reason. Then it may take the mark back, and marks itself again later.
    pub fn is_own(self) -> bool {
        !matches!(self, Self::SourceChanged | Self::Touched | Self::Api)
    }

    /// All reasons, in the order of [`RECYCLE_REASON`].
    pub const ALL: [RetireReason; RECYCLE_REASON.values.len()] = [
        RetireReason::SourceChanged,
        RetireReason::Touched,
        RetireReason::Api,
        RetireReason::MaxRequests,
        RetireReason::Memory,
        RetireReason::Age,
        RetireReason::RequestTimeout,
        RetireReason::Deadlock,
        RetireReason::StartupTimeout,
        RetireReason::CpuTime,
        RetireReason::Descriptors,
    ];

    /// Returns the reason in words.
    pub const fn text(self) -> &'static str {
        match self {
            RetireReason::SourceChanged => "its source files have changed",
            RetireReason::Touched => "the reload file was touched",
            RetireReason::Api => "a reload was asked for",
            RetireReason::MaxRequests => "it has served its number of requests",
            RetireReason::Memory => "it uses too much memory",
            RetireReason::Age => "it is old enough",
            RetireReason::RequestTimeout => "a request did not end after its time",
            RetireReason::Deadlock => "its GIL could not be acquired",
            RetireReason::StartupTimeout => "an application was not loaded in time",
            RetireReason::CpuTime => "it has used its CPU time",
            RetireReason::Descriptors => "it may open no more files",
        }
    }

    /// Returns the value of the label `reason`.
    pub const fn label(self) -> &'static str {
        RECYCLE_REASON.values[self as usize]
    }

    pub(super) fn word(self) -> u64 {
        self as u64 + 1
    }

    pub(super) fn of_word(word: u64) -> Option<Self> {
        let at = usize::try_from(word).ok()?.checked_sub(1)?;
        Self::ALL.get(at).copied()
    }
}
