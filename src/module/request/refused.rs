//! A request that is answered with a status of httpd's, and what is logged and counted for it.

use std::ffi::{CStr, c_int};
use std::fmt::Display;

use wsgi_core::messages::Message;
use wsgi_httpd::request::Request;
use wsgi_httpd::sys;

use super::timeline::{Rejection, Timeline};

/// Seconds after which a client that is refused for now may ask again.
const RETRY_AFTER: &CStr = c"1";

/// The answer to a request that the application does not give.
pub(super) struct Refused {
    /// A status of HTTP, or another of httpd's codes.
    status: c_int,
    line: Option<(Message, String)>,
    rejection: Option<Rejection>,
    may_retry: bool,
}

impl Refused {
    /// A status, of which nothing is logged or counted here.
    pub(super) fn status(status: c_int) -> Self {
        Self {
            status,
            line: None,
            rejection: None,
            may_retry: false,
        }
    }

    /// A status, and the line that says why.
    pub(super) fn logged(status: c_int, message: Message, values: &[&dyn Display]) -> Self {
        Self::status(status).with_line(message, message.line(values))
    }

    /// 503: the request would be answered a little later.
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

    /// Logs and counts it. The status that httpd is to answer with.
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
