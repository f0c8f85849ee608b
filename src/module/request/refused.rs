//! A request that httpd answers with a status, and what is logged and counted for it.

use std::ffi::{CStr, c_int};
use std::fmt::Display;

use wsgi_core::messages::Message;
use wsgi_httpd::request::Request;
use wsgi_httpd::sys;

use super::timeline::{Rejection, Timeline};

/// Seconds after which a client that is refused for now may try again.
const RETRY_AFTER: &CStr = c"1";

/// The answer to a request that no application answers.
pub(super) struct Refused {
    /// An HTTP status, or another of httpd's codes.
    status: c_int,
    line: Option<(Message, String)>,
    rejection: Option<Rejection>,
    may_retry: bool,
}

impl Refused {
    /// Returns a status that is neither logged nor counted here.
    pub(super) fn status(status: c_int) -> Self {
        Self {
            status,
            line: None,
            rejection: None,
            may_retry: false,
        }
    }

    /// Returns a status, and the log line that says why.
    pub(super) fn logged(status: c_int, message: Message, values: &[&dyn Display]) -> Self {
        Self::status(status).with_line(message, message.line(values))
    }

    /// Returns 503, for a request that could be answered a little later.
    pub(super) fn later(why: Rejection) -> Self {
        Self {
            may_retry: true,
            ..Self::status(sys::HTTP_SERVICE_UNAVAILABLE as c_int).counted(why)
        }
    }

    pub(super) fn with_line(self, message: Message, line: String) -> Self {
        Self {
            line: Some((message, line)),
            ..self
        }
    }

    pub(super) fn counted(self, why: Rejection) -> Self {
        Self {
            rejection: Some(why),
            ..self
        }
    }

    /// Logs and counts the refusal. Returns the status with which httpd must answer.
    pub(super) fn tell(self, request: Request<'_>, timeline: &Timeline<'_>) -> c_int {
        if let Some((message, line)) = &self.line {
            request.log(message.level(), line.as_bytes());
        }
        if let Some(why) = self.rejection {
            timeline.reject(why);
        }
        if self.may_retry {
            request.retry_after(RETRY_AFTER);
        }
        self.status
    }
}
