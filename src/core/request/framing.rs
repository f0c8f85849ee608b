//! Checks of a request's framing before Python is entered [M-7].

use crate::messages::Message;
use crate::request::response::{parse_decimal, python_bytes_repr};

/// What the request declares about its body, and what the configuration allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framing<'a> {
    /// `Transfer-Encoding`.
    pub transfer_encoding: Option<&'a [u8]>,
    /// `Content-Length`.
    pub content_length: Option<&'a [u8]>,
    /// `WSGIChunkedRequest`.
    pub chunked_request: bool,
    /// `LimitRequestBody` in bytes; 0 for none.
    pub limit: u64,
}

/// Why a request is refused before Python is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// A transfer encoding that is not "chunked".
    TransferEncoding(&'a [u8]),
    /// A chunked body without `WSGIChunkedRequest On`.
    ChunkedNotAllowed,
    /// Both framings at once, which may smuggle a second request past a proxy.
    ChunkedWithLength,
    /// A length that is not a number.
    ContentLength(&'a [u8]),
    /// A length above `LimitRequestBody`.
    TooLarge {
        /// The declared length, bytes.
        declared: u64,
        /// The allowed length, bytes.
        limit: u64,
    },
}

/// Checks a request's framing, in mod_wsgi's order.
pub fn check_request<'a>(framing: &Framing<'a>) -> Result<(), Refusal<'a>> {
    if let Some(encoding) = framing.transfer_encoding {
        if !encoding.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferEncoding(encoding));
        }
        if !framing.chunked_request {
            return Err(Refusal::ChunkedNotAllowed);
        }
        if framing.content_length.is_some() {
            return Err(Refusal::ChunkedWithLength);
        }
    }
    if let Some(value) = framing.content_length {
        let declared = parse_decimal(value).ok_or(Refusal::ContentLength(value))?;
        if framing.limit != 0 && declared > framing.limit {
            return Err(Refusal::TooLarge {
                declared,
                limit: framing.limit,
            });
        }
    }
    Ok(())
}

impl Refusal<'_> {
    /// Returns the HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::TransferEncoding(_) => 501,
            Refusal::ChunkedNotAllowed => 411,
            Refusal::ChunkedWithLength | Refusal::ContentLength(_) => 400,
            Refusal::TooLarge { .. } => 413,
        }
    }

    /// Returns the message for the log.
    pub fn message(&self) -> Message {
        match self {
            Refusal::TransferEncoding(_) => Message::TransferEncoding,
            Refusal::ChunkedNotAllowed => Message::ChunkedNotAllowed,
            Refusal::ChunkedWithLength => Message::ChunkedWithLength,
            Refusal::ContentLength(_) => Message::BadContentLength,
            Refusal::TooLarge { .. } => Message::BodyTooLarge,
        }
    }

    /// Returns the line for the log: the message with its values.
    pub fn log_line(&self) -> String {
        match self {
            Refusal::ChunkedNotAllowed | Refusal::ChunkedWithLength => self.message().line(&[]),
            Refusal::TransferEncoding(value) | Refusal::ContentLength(value) => {
                self.message().line(&[&python_bytes_repr(value)])
            }
            Refusal::TooLarge { declared, limit } => self.message().line(&[declared, limit]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(transfer: Option<&str>, length: Option<&str>, chunked: bool, limit: u64) -> u16 {
        let framing = Framing {
            transfer_encoding: transfer.map(str::as_bytes),
            content_length: length.map(str::as_bytes),
            chunked_request: chunked,
            limit,
        };
        check_request(&framing).map_or_else(|refusal| refusal.status(), |()| 200)
    }

    #[test]
    fn framings() {
        for (transfer, length, chunked, limit, expected) in [
            (None, None, false, 0, 200),
            (None, Some("0"), false, 1, 200),
            (None, Some("10"), false, 10, 200),
            (None, Some("11"), false, 10, 413),
            (None, Some("11"), false, 0, 200),
            (None, Some("-1"), false, 0, 400),
            (None, Some(""), false, 0, 400),
            (None, Some("1x"), false, 0, 400),
            (None, Some("99999999999999999999"), false, 0, 400),
            (Some("gzip"), None, true, 0, 501),
            (Some("gzip, chunked"), None, true, 0, 501),
            (Some("chunked"), None, false, 0, 411),
            (Some("Chunked"), None, true, 0, 200),
            (Some("chunked"), Some("5"), true, 0, 400),
            (Some("chunked"), Some("5"), false, 0, 411),
        ] {
            assert_eq!(
                status(transfer, length, chunked, limit),
                expected,
                "{transfer:?} {length:?} {chunked} {limit}"
            );
        }
    }

    #[test]
    fn refusals_name_the_value() {
        for (refusal, expected) in [
            (
                Refusal::TransferEncoding(b"gzip"),
                "WSGI0138: unexpected value for Transfer-Encoding of b'gzip'",
            ),
            (
                Refusal::ChunkedNotAllowed,
                "WSGI0139: the request body is chunked, which WSGIChunkedRequest Off does not allow",
            ),
            (
                Refusal::ChunkedWithLength,
                "WSGI0140: the request has both a chunked Transfer-Encoding and a Content-Length",
            ),
            (
                Refusal::ContentLength(b"x\n"),
                "WSGI0141: invalid Content-Length of b'x\\n'",
            ),
            (
                Refusal::TooLarge {
                    declared: 11,
                    limit: 10,
                },
                "WSGI1009: Content-Length of 11 exceeds LimitRequestBody of 10",
            ),
        ] {
            assert_eq!(refusal.log_line(), expected);
        }
    }
}
