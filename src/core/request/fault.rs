//! Whose fault a failed request is, and what follows: one table for everything that reads a body or sends a response.
//!
//! | failure | reading the body | sending the response |
//! |---|---|---|
//! | the client is gone | 400, counted as an abort | the response ends, counted as an abort |
//! | too slow | 408, counted as a timeout | the response ends, counted as a timeout |
//! | too large | 413, counted as refused | – |
//! | cannot be decoded | 400 | – |
//! | not implemented | 501 | – |
//! | a filter has answered | its answer | its answer |
//! | the response is whole | – | it stands |
//! | httpd has failed | 500 | 500, or the response is cut |
//!
//! The statuses of bodies are those of `ap_map_http_request_error`. They are sent where the application lets the
//! `OSError` out that it got, as it is or as the cause or the context of another exception, and nothing has been sent
//! yet. An application that catches it and answers itself is heard, unless nobody is there to listen.

pub use wsgi_abi::{Fault, Presence};

use crate::messages::Message;

/// What httpd was doing for the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Reading the body of the request.
    Read,
    /// Sending the response.
    Write,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client's.
    Client,
    /// Nobody's: the request has been answered, by a filter of httpd or by what the application has sent before.
    Nobody,
    /// httpd's.
    Server,
}

/// What a failure is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `wsgi_client_aborts_total`
    Abort,
    /// `wsgi_request_timeouts_total`
    Timeout,
    /// `wsgi_requests_rejected_total`, where it is the answer.
    Refusal,
    /// Nothing but the status.
    Nothing,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose fault it was.
    pub blame: Blame,
    /// The status where nothing has been sent; `None` where there is nothing left to answer.
    pub status: Option<u16>,
    /// What it is counted as.
    pub count: Count,
    /// The line of an application that was ended by it.
    pub message: Message,
    /// `errno` of the `OSError`.
    pub errno: Errno,
    /// Whether the iteration of a response ends without an exception.
    pub is_quiet: bool,
    /// What happened, in words.
    pub words: &'static str,
}

/// `errno` of an `OSError`, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// `ECONNRESET`
    ConnectionReset,
    /// `EPIPE`
    BrokenPipe,
    /// `ETIMEDOUT`
    TimedOut,
    /// `EFBIG`
    TooBig,
    /// `EBADMSG`
    BadMessage,
    /// `ENOTSUP`
    NotSupported,
    /// `ECONNABORTED`
    ConnectionAborted,
    /// `EIO`
    InputOutput,
}

/// What follows from a failure.
pub const fn verdict(fault: Fault, transfer: Transfer) -> Verdict {
    let reads = matches!(transfer, Transfer::Read);
    let blame = match fault {
        Fault::Answered | Fault::Whole => Blame::Nobody,
        Fault::Server => Blame::Server,
        Fault::Gone | Fault::Slow | Fault::TooLarge | Fault::Malformed | Fault::Unsupported => {
            Blame::Client
        }
    };
    Verdict {
        blame,
        status: match (fault, transfer) {
            (Fault::Answered | Fault::Whole, _) => None,
            (Fault::Server, _) => Some(500),
            (_, Transfer::Write) => None,
            (Fault::Gone | Fault::Malformed, Transfer::Read) => Some(400),
            (Fault::Slow, Transfer::Read) => Some(408),
            (Fault::TooLarge, Transfer::Read) => Some(413),
            (Fault::Unsupported, Transfer::Read) => Some(501),
        },
        count: match fault {
            Fault::Gone => Count::Abort,
            Fault::Slow => Count::Timeout,
            Fault::TooLarge if reads => Count::Refusal,
            _ => Count::Nothing,
        },
        message: match (blame, transfer) {
            (Blame::Server, Transfer::Read) => Message::BodyNotRead,
            (Blame::Server, Transfer::Write) => Message::ResponseNotSent,
            _ => Message::EndedByClient,
        },
        errno: match fault {
            Fault::Gone if reads => Errno::ConnectionReset,
            Fault::Gone | Fault::Whole => Errno::BrokenPipe,
            Fault::Slow => Errno::TimedOut,
            Fault::TooLarge => Errno::TooBig,
            Fault::Malformed => Errno::BadMessage,
            Fault::Unsupported => Errno::NotSupported,
            Fault::Answered => Errno::ConnectionAborted,
            Fault::Server => Errno::InputOutput,
        },
        is_quiet: !reads && !matches!(blame, Blame::Server),
        words: match fault {
            Fault::Gone => "the client is gone",
            Fault::Slow if reads => "the body came too slowly",
            Fault::Slow => "the client takes the response too slowly",
            Fault::TooLarge => "the body is longer than LimitRequestBody allows",
            Fault::Malformed => "the body cannot be decoded",
            Fault::Unsupported => "the encoding of the body is not implemented",
            Fault::Answered => "a filter of httpd has answered the request",
            Fault::Server => "httpd has failed",
            Fault::Whole => "the response is whole",
        },
    }
}

/// The status that takes the place of the application's, after a failed read of the body; `None` where the application
/// is heard. A client that has left makes no 5xx, whatever the application makes of it.
pub const fn replaced(failed_read: Option<Fault>, status: u16) -> Option<u16> {
    match failed_read {
        Some(Fault::Gone) if status >= 500 => verdict(Fault::Gone, Transfer::Read).status,
        _ => None,
    }
}

/// Why an application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By an exception of its own.
    Application,
    /// By `mod_wsgi.RequestTimeout`.
    TimedOut,
    /// By a failure of the host that it let out.
    Fault(Fault, Transfer),
}

/// How far a response had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it has left.
    Nothing,
    /// Nothing of it has left, and it is whole.
    Whole,
    /// It has begun.
    Begun,
    /// It has been sent to its end.
    Ended,
}

/// What becomes of a request whose application ended so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its response is sent to its end; the client is owed what was complete before.
    Send,
    /// Its response is cut.
    Cut,
    /// Nobody is interested in the rest.
    Leave,
    /// The application has failed: 500.
    Failed,
    /// It took too long: 504.
    TimedOut,
    /// The answer is that of the failure ([`Verdict::status`]).
    Faulted,
}

/// What becomes of a request whose application ended by an exception.
pub const fn ending(cause: Cause, progress: Progress) -> Ending {
    match (progress, cause) {
        (Progress::Whole | Progress::Ended, _) => Ending::Send,
        (Progress::Begun, Cause::Fault(Fault::Gone | Fault::Answered | Fault::Whole, _)) => {
            Ending::Leave
        }
        (Progress::Begun, Cause::Fault(Fault::Slow, Transfer::Write)) => Ending::Leave,
        (Progress::Begun, _) => Ending::Cut,
        (Progress::Nothing, Cause::Application) => Ending::Failed,
        (Progress::Nothing, Cause::TimedOut) => Ending::TimedOut,
        (Progress::Nothing, Cause::Fault(..)) => Ending::Faulted,
    }
}

/// How long a client that sends nothing more from the start is taken to wait for its answer while there is nothing to
/// send to it. Nanoseconds.
pub const HALF_CLOSED_GRACE: u64 = 3_000_000_000;

/// For how long after the first look a client that ends its half is taken to have done so with its request: the two may
/// come one after the other. Nanoseconds.
const AT_ONCE: u64 = 500_000_000;

/// When a client that nothing is sent to is looked at first, and how often then. Nanoseconds.
const FIRST_LOOK: u64 = 100_000_000;
const LOOKS: u64 = 1_000_000_000;

/// The client of one request, looked at now and then while nothing is sent to it.
///
/// A client may end its half of the connection with the request and wait for the answer. One that does so later has
/// given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vigil {
    /// When to look again, as a stamp; 0 for nothing known.
    due: u64,
    /// When it was looked at first; 0 for never.
    began: u64,
    /// Whether it was there longer than [`AT_ONCE`].
    was_here: bool,
    /// When it was first seen to send nothing more; 0 for never.
    half_closed: u64,
}

impl Vigil {
    /// Whether it is time to look, at the stamp `now`, which is not 0. The first call only begins the time.
    pub fn is_due(&mut self, now: u64) -> bool {
        if self.due == 0 {
            self.due = now.saturating_add(FIRST_LOOK);
            return false;
        }
        if now < self.due {
            return false;
        }
        self.due = now.saturating_add(LOOKS);
        true
    }

    /// Whether a client that is seen so at the stamp `now` has left.
    pub fn has_left(&mut self, presence: Presence, now: u64) -> bool {
        if self.began == 0 {
            self.began = now;
        }
        match presence {
            Presence::Gone => true,
            Presence::Here => {
                self.was_here |= now.saturating_sub(self.began) >= AT_ONCE;
                false
            }
            Presence::HalfClosed if self.was_here => true,
            Presence::HalfClosed => {
                if self.half_closed == 0 {
                    self.half_closed = now;
                }
                now.saturating_sub(self.half_closed) >= HALF_CLOSED_GRACE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Level;

    const FAULTS: [Fault; 8] = [
        Fault::Gone,
        Fault::Slow,
        Fault::TooLarge,
        Fault::Malformed,
        Fault::Unsupported,
        Fault::Answered,
        Fault::Server,
        Fault::Whole,
    ];
    const TRANSFERS: [Transfer; 2] = [Transfer::Read, Transfer::Write];

    #[test]
    fn bodies_have_the_statuses_of_httpd() {
        let statuses = FAULTS.map(|fault| verdict(fault, Transfer::Read).status);
        let expected = [
            Some(400),
            Some(408),
            Some(413),
            Some(400),
            Some(501),
            None,
            Some(500),
            None,
        ];
        assert_eq!(statuses, expected);
    }

    #[test]
    fn only_httpd_itself_is_an_error() {
        for fault in FAULTS {
            for transfer in TRANSFERS {
                let verdict = verdict(fault, transfer);
                let is_server = fault == Fault::Server;
                assert_eq!(
                    verdict.blame == Blame::Server,
                    is_server,
                    "{fault:?} {transfer:?}"
                );
                let level = verdict.message.level();
                assert_eq!(
                    level,
                    if is_server { Level::Error } else { Level::Info },
                    "{fault:?} {transfer:?}"
                );
                if !is_server && fault != Fault::Unsupported {
                    assert!(
                        verdict.status.is_none_or(|status| status < 500),
                        "{fault:?}"
                    );
                }
                assert_eq!(verdict.is_quiet, transfer == Transfer::Write && !is_server);
            }
        }
    }

    #[test]
    fn a_client_is_counted_by_what_it_did() {
        for transfer in TRANSFERS {
            assert_eq!(verdict(Fault::Gone, transfer).count, Count::Abort);
            assert_eq!(verdict(Fault::Slow, transfer).count, Count::Timeout);
            for fault in [
                Fault::Malformed,
                Fault::Unsupported,
                Fault::Answered,
                Fault::Server,
                Fault::Whole,
            ] {
                assert_eq!(verdict(fault, transfer).count, Count::Nothing);
            }
        }
        assert_eq!(
            verdict(Fault::TooLarge, Transfer::Read).count,
            Count::Refusal
        );
    }

    #[test]
    fn an_application_is_heard_unless_its_client_has_left() {
        for status in [200, 302, 404, 499, 500, 503] {
            for fault in FAULTS.map(Some).into_iter().chain([None]) {
                let gone = fault == Some(Fault::Gone) && status >= 500;
                assert_eq!(
                    replaced(fault, status),
                    gone.then_some(400),
                    "{fault:?} {status}"
                );
            }
        }
    }

    #[test]
    fn endings() {
        let causes = FAULTS
            .into_iter()
            .flat_map(|fault| TRANSFERS.map(|transfer| Cause::Fault(fault, transfer)))
            .chain([Cause::Application, Cause::TimedOut]);
        for cause in causes {
            for progress in [Progress::Whole, Progress::Ended] {
                assert_eq!(ending(cause, progress), Ending::Send, "{cause:?}");
            }
            let (nothing, begun) = match cause {
                Cause::Application => (Ending::Failed, Ending::Cut),
                Cause::TimedOut => (Ending::TimedOut, Ending::Cut),
                Cause::Fault(Fault::Gone | Fault::Answered | Fault::Whole, _)
                | Cause::Fault(Fault::Slow, Transfer::Write) => (Ending::Faulted, Ending::Leave),
                Cause::Fault(..) => (Ending::Faulted, Ending::Cut),
            };
            assert_eq!(ending(cause, Progress::Nothing), nothing, "{cause:?}");
            assert_eq!(ending(cause, Progress::Begun), begun, "{cause:?}");
        }
    }

    #[test]
    fn looks_are_rare() {
        let mut vigil = Vigil::default();
        let looks: Vec<u64> = (1..=3_000)
            .map(|millisecond| millisecond * 1_000_000)
            .filter(|&now| vigil.is_due(now))
            .map(|now| now / 1_000_000)
            .collect();
        assert_eq!(looks, [101, 1_101, 2_101]);
    }

    #[test]
    fn who_ends_its_half_at_once_may_wait_for_an_answer() {
        let second = 1_000_000_000;
        let mut vigil = Vigil::default();
        assert!(!vigil.has_left(Presence::Here, second), "a moment before");
        for at in 1..4 {
            assert!(
                !vigil.has_left(Presence::HalfClosed, at * second + 1),
                "{at} s"
            );
        }
        assert!(vigil.has_left(Presence::HalfClosed, 4 * second + 1));
        assert!(Vigil::default().has_left(Presence::Gone, second));
    }

    #[test]
    fn who_ends_its_half_later_has_given_up() {
        let mut vigil = Vigil::default();
        assert!(!vigil.has_left(Presence::Here, 1));
        assert!(!vigil.has_left(Presence::Here, AT_ONCE + 1));
        assert!(vigil.has_left(Presence::HalfClosed, AT_ONCE + 2));
    }
}
