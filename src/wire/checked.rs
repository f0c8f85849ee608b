//! What a process may send of a response, and how its request may end after that.
//!
//! The child asks here before it makes a call. The engine itself never breaks these rules, but another program may have
//! taken its place, and must not make httpd send a response that is not valid, or two.

use wsgi_abi::RunOutcome;
use wsgi_core::request::response::{BodyLength, Content};

use crate::connection::WireError;
use crate::response::UnpackedHead;

/// How far the response of one request has come.
pub(crate) struct CheckedResponse {
    /// The method is HEAD, so the client gets no body, whatever its length.
    header_only: bool,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// No head.
    Nothing,
    /// The head, and a part of the body.
    Begun(BodyLength),
    /// The body has ended, or was cut.
    Over,
}

/// What is left to do for the response when its request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// Nothing.
    Nothing,
    /// The body has not ended: cut the response.
    Cut,
}

impl CheckedResponse {
    pub(crate) fn new(header_only: bool) -> Self {
        Self {
            header_only,
            stage: Stage::Nothing,
        }
    }

    /// Takes the head.
    pub(crate) fn begin(&mut self, head: &UnpackedHead<'_>) -> Result<(), WireError> {
        if !matches!(self.stage, Stage::Nothing) {
            return Err(WireError::Violation("a second head"));
        }
        let announced = u64::try_from(head.content_length).ok();
        let length = match (Content::of(head.status), announced) {
            (Content::Allowed, announced) => announced,
            // The length of another response.
            (Content::Elsewhere, _) | (Content::Absent, None) | (Content::Empty, Some(0)) => {
                Some(0)
            }
            (Content::Absent | Content::Empty, _) => {
                return Err(WireError::Violation("a length that the status forbids"));
            }
        };
        self.stage = Stage::Begun(BodyLength::new(length));
        Ok(())
    }

    /// Returns the count of the body, if that may go on.
    pub(crate) fn open_body(&mut self) -> Result<&mut BodyLength, WireError> {
        match &mut self.stage {
            Stage::Begun(length) => Ok(length),
            Stage::Nothing => Err(WireError::Violation("a body before its head")),
            Stage::Over => Err(WireError::Violation("a body after its end")),
        }
    }

    /// Takes a part of the body, of `count` bytes. Returns whether the body ends with it and is shorter than was
    /// announced, so that the response must be cut.
    pub(crate) fn take(&mut self, count: usize, is_end: bool) -> Result<bool, WireError> {
        let length = self.open_body()?;
        if length.take(count) < count {
            return Err(WireError::Violation("a body is longer than announced"));
        }
        if !is_end {
            return Ok(false);
        }
        let is_short = length.short() && !self.header_only;
        self.stage = Stage::Over;
        Ok(is_short)
    }

    /// Takes a cut.
    pub(crate) fn cut(&mut self) -> Result<(), WireError> {
        match self.stage {
            Stage::Begun(_) => {
                self.stage = Stage::Over;
                Ok(())
            }
            Stage::Nothing => Err(WireError::Violation("a response is cut before its head")),
            Stage::Over => Err(WireError::Violation("a response is cut after its end")),
        }
    }

    /// Checks how a request may end. `has_stopped`: whether the host has refused a part of the response, so that the
    /// process need not have sent the rest.
    ///
    /// With most outcomes the caller answers in place of the application, which must not happen to a client that has an
    /// answer. After the head the engine returns three outcomes only: `Responded`; `ClientLeft`, which is answered
    /// with nothing; and `Failed`, if the host has failed, or if the engine has panicked. `TimedOut` and `Faulted` are
    /// for requests without a head, see `Progress` and `ending` in `wsgi_core::request::fault`.
    pub(crate) fn check_end(
        &self,
        outcome: RunOutcome,
        has_stopped: bool,
    ) -> Result<AtEnd, WireError> {
        let at_end = match (outcome, self.stage) {
            (RunOutcome::GivenUp, _) => {
                return Err(WireError::Violation("a request given up without its frame"));
            }
            (RunOutcome::Responded, Stage::Nothing) => {
                return Err(WireError::Violation("a response without a head"));
            }
            (_, Stage::Nothing) | (RunOutcome::ClientLeft, _) => AtEnd::Nothing,
            (RunOutcome::Responded | RunOutcome::Failed, _) if has_stopped => AtEnd::Nothing,
            // httpd ends such a response by itself.
            (RunOutcome::Responded, Stage::Begun(_)) if self.header_only => AtEnd::Nothing,
            (RunOutcome::Responded | RunOutcome::Failed, Stage::Begun(_)) => AtEnd::Cut,
            (RunOutcome::Responded, Stage::Over) => AtEnd::Nothing,
            _ => {
                return Err(WireError::Violation(
                    "a request that fails after its response",
                ));
            }
        };
        Ok(at_end)
    }
}
