//! What is known about the body of a request before it is read.

use wsgi_core::config::Settings;
use wsgi_core::messages::Message;
use wsgi_core::request::framing::{Framing, check_request};
use wsgi_httpd::request::Request;

use super::client::Client;
use super::refused::Refused;
use super::timeline::Rejection;

/// Highest number of bytes of a body that are read before Python is entered.
const BODY_AHEAD: u32 = 64 * 1024;

/// A body, as the headers of its request describe it.
pub(super) struct Body<'r> {
    request: Request<'r>,
    transfer_encoding: Option<&'r [u8]>,
    content_length: Option<&'r [u8]>,
    /// Whether the client may send a body.
    pub(super) may_come: bool,
    /// Whether the application gets the body.
    pub(super) is_for_application: bool,
}

/// The length of the body that the application sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// The length that the client has sent, if any.
    AsSent,
    /// This number of bytes, which filters of httpd have produced.
    Bytes(usize),
    /// No length: the application gets no body, or the length is not known.
    Untold,
}

impl<'r> Body<'r> {
    pub(super) fn of(request: Request<'r>) -> Self {
        let headers = request.headers_in();
        let content_length = headers.get(c"Content-Length");
        // mod_http2 sets this header, too, for its own use.
        let transfer_encoding = headers.get(c"Transfer-Encoding");
        let transfer_encoding = transfer_encoding.filter(|_| request.is_http1());
        let may_come = match content_length {
            _ if request.is_subrequest() => false,
            _ if transfer_encoding.is_some() => true,
            Some(length) => length.iter().any(|&digit| digit != b'0'),
            // HTTP/2 has bodies without either header.
            None => !request.is_http1(),
        };
        Self {
            request,
            transfer_encoding,
            content_length,
            may_come,
            // The error page for a refused body must not ask for that body again.
            is_for_application: may_come && !request.has_lost_its_body(),
        }
    }

    /// Refuses a body with framing that is not allowed, and one that is too long.
    pub(super) fn check(&self, settings: &Settings<'_>) -> Result<(), Refused> {
        // The header may be why this error page was asked for, and it is still there.
        if self.request.is_error_page() {
            return Ok(());
        }
        let framing = Framing {
            transfer_encoding: self.transfer_encoding,
            content_length: self.content_length,
            chunked_request: settings.chunked_request,
            limit: match self.content_length {
                Some(_) => self.request.body_limit(),
                None => 0,
            },
        };
        check_request(&framing).map_err(|refusal| {
            let message = refusal.message();
            let refused =
                Refused::status(refusal.status().into()).with_line(message, refusal.log_line());
            if message == Message::BodyTooLarge {
                refused.counted(Rejection::BodyTooLarge)
            } else {
                refused
            }
        })
    }

    /// Returns the length that the application sees. If filters may change the length, reads a small body completely
    /// now.
    pub(super) fn length(&self, client: &Client<'_>) -> BodyLength {
        if !self.may_come {
            return BodyLength::AsSent;
        }
        if !self.is_for_application {
            return BodyLength::Untold;
        }
        if self.content_length.is_none() || self.request.keeps_length() {
            return BodyLength::AsSent;
        }
        client
            .read_whole(BODY_AHEAD as usize)
            .map_or(BodyLength::Untold, BodyLength::Bytes)
    }

    /// Returns how many bytes of the body to read before Python is entered, provided they have arrived by then: all of
    /// a small body, or the start of one of unknown length. Returns 0 if the client waits to be asked for the body,
    /// which it may then not have to send, and for an error page, as the body may be what the error is about.
    pub(super) fn ahead(&self) -> u32 {
        let is_asked_for = self.request.headers_in().get(c"Expect").is_some();
        if !self.is_for_application
            || self.request.is_error_page()
            || !self.request.reads_from_protocol()
            || is_asked_for
        {
            return 0;
        }
        let Some(digits) = self.content_length else {
            return BODY_AHEAD;
        };
        let digits = std::str::from_utf8(digits).ok();
        let length = digits.and_then(|digits| digits.trim().parse::<u32>().ok());
        length.filter(|&length| length <= BODY_AHEAD).unwrap_or(0)
    }
}
