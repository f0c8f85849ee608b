//! The party responsible for a failed request, and what follows: one table for everything that reads a body or sends a
//! response.
//!
//! | failure | reading the body | sending the response |
//! |---|---|---|
//! | the client is gone | 400, counted as an abort | the response ends, counted as an abort |
//! | too slow | 408, counted as a timeout | the response ends, counted as a timeout |
//! | too large | 413, counted as refused | – |
//! | cannot be decoded | 400 | – |
//! | not implemented | 501 | – |
//! | a filter has answered | its answer | its answer |
//! | the response is complete | – | the response stays |
//! | httpd has failed | 500 | 500, or the response is cut |
//!
//! The statuses for reading the body are those of `ap_map_http_request_error`. They are sent if nothing has been sent
//! yet and the application does not catch the `OSError` that it got, or raises another exception with it as cause or
//! context. If the application catches the `OSError` and answers, its answer is sent, unless the client has left.

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

/// The party responsible for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client.
    Client,
    /// No one: the request has been answered, by a filter of httpd or by what the application had sent.
    Nobody,
    /// httpd.
    Server,
}

/// The metric that counts a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `wsgi_client_aborts_total`
    Abort,
    /// `wsgi_request_timeouts_total`
    Timeout,
    /// `wsgi_requests_rejected_total`, if the refusal is the answer.
    Refusal,
    /// No metric but the status.
    Nothing,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The party responsible for the failure.
    pub blame: Blame,
    /// The status if nothing has been sent; `None` if there is nothing left to answer.
    pub status: Option<u16>,
    /// The metric that counts the failure.
    pub count: Count,
    /// The log message if the failure ends the application.
    pub message: Message,
    /// `errno` of the `OSError`.
    pub errno: Errno,
    /// Whether the iteration over the response ends without an exception.
    pub is_quiet: bool,
    /// What happened, as a phrase.
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

/// Returns the status that replaces the application's after a failed read of the body; `None` if the application's
/// stays. A client that has left never counts as a 5xx, whatever the application answers.
pub const fn replaced(failed_read: Option<Fault>, status: u16) -> Option<u16> {
    match failed_read {
        Some(Fault::Gone) if status >= 500 => verdict(Fault::Gone, Transfer::Read).status,
        _ => None,
    }
}

/// Why an application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An exception of the application.
    Application,
    /// `mod_wsgi.RequestTimeout`.
    TimedOut,
    /// A failure of the host whose exception the application did not catch.
    Fault(Fault, Transfer),
}

/// How much of a response had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing had been sent.
    Nothing,
    /// Nothing had been sent, but the response was complete.
    Whole,
    /// A part had been sent.
    Begun,
    /// The whole response had been sent.
    Ended,
}

/// What follows for a request whose application ended with an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The response is sent to its end, as it was complete before.
    Send,
    /// The response is cut.
    Cut,
    /// Nothing more is sent, as the client does not take the rest.
    Leave,
    /// The application has failed: 500.
    Failed,
    /// The application took too long: 504.
    TimedOut,
    /// The failure determines the answer ([`Verdict::status`]).
    Faulted,
}

/// Returns what follows for a request whose application ended with an exception.
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

/// How long a client that has ended its half of the connection from the start counts as waiting for its answer, while
/// there is nothing to send. Nanoseconds.
pub const HALF_CLOSED_GRACE: u64 = 3_000_000_000;

/// A client that ends its half of the connection within this time after the first check counts as having done so with
/// its request, as the two may arrive one after the other. Nanoseconds.
const AT_ONCE: u64 = 500_000_000;

/// Time until a client is first checked while nothing is sent to it, and between later checks. Nanoseconds.
const FIRST_LOOK: u64 = 100_000_000;
const LOOKS: u64 = 1_000_000_000;

/// Checks the client of one request now and then while nothing is sent to it.
///
/// A client may end its half of the connection with the request and wait for the answer. A client that does so later
/// has given up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vigil {
    /// Stamp of the next check; 0 if none is planned.
    due: u64,
    /// Stamp of the first check; 0 for none.
    began: u64,
    /// Whether the client was there longer than [`AT_ONCE`].
    was_here: bool,
    /// Stamp at which the client was first seen to send nothing more; 0 for never.
    half_closed: u64,
}

impl Vigil {
    /// Returns whether a check is due at the stamp `now`, which is not 0. The first call only starts the clock.
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

    /// Returns whether a client with this presence at the stamp `now` has left.
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

    const TRANSFERS: [Transfer; 2] = [Transfer::Read, Transfer::Write];

    #[test]
    fn bodies_have_the_statuses_of_httpd() {
        let statuses = Fault::ALL.map(|fault| verdict(fault, Transfer::Read).status);
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
        for fault in Fault::ALL {
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
            for fault in Fault::ALL.map(Some).into_iter().chain([None]) {
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
        let causes = Fault::ALL
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
    fn a_client_that_ends_its_half_at_once_may_wait_for_an_answer() {
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
    fn a_client_that_ends_its_half_later_has_given_up() {
        let mut vigil = Vigil::default();
        assert!(!vigil.has_left(Presence::Here, 1));
        assert!(!vigil.has_left(Presence::Here, AT_ONCE + 1));
        assert!(vigil.has_left(Presence::HalfClosed, AT_ONCE + 2));
    }
}
