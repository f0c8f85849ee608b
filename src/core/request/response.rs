//! Checks of what an application passes to `start_response` [M-16], and the count of its body against the declared
//! length [M-17].
//!
//! The texts are mod_wsgi's if it has the check [M-19]. Two checks are ours: names that are not tokens, and values with
//! control characters. httpd would answer these with a 500 without a reason.

use std::fmt::{self, Write};

/// Why a response is refused. `Display` writes the text of the exception that the application gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError<'a> {
    /// The status does not begin with three digits.
    StatusNotThreeDigits(&'a [u8]),
    /// A character other than a space follows the digits.
    StatusWithoutSpace(&'a [u8]),
    /// The reason phrase has a control character.
    ReasonControl(&'a [u8]),
    /// The code is not one of a final response.
    StatusNotFinal(&'a [u8]),
    /// A header has no name.
    NameEmpty,
    /// A header's name has a space.
    NameSpace(&'a [u8]),
    /// A header's name has a control character.
    NameControl(&'a [u8]),
    /// A header's name has another character that is not allowed in a token.
    NameNotToken(&'a [u8]),
    /// A header's value has a CR or LF.
    ValueLineBreak(&'a [u8]),
    /// A header's value has another control character than TAB.
    ValueControl(&'a [u8]),
    /// `Content-Length` is not a non-negative decimal number.
    ContentLength(&'a [u8]),
}

impl fmt::Display for ResponseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ResponseError::*;
        let (text, value) = match *self {
            StatusNotThreeDigits(value) => ("status code must be a 3 digit integer", value),
            StatusWithoutSpace(value) => ("no space following status code", value),
            ReasonControl(value) => ("control character in status reason phrase", value),
            StatusNotFinal(value) => (
                "status code of a final response must be from 200 to 599",
                value,
            ),
            NameEmpty => return f.write_str("header name is empty"),
            NameSpace(value) => ("space character in header name", value),
            NameControl(value) => ("control character in header name", value),
            NameNotToken(value) => ("invalid character in header name", value),
            ValueLineBreak(value) => ("carriage return/line feed character in header value", value),
            ValueControl(value) => ("control character in header value", value),
            ContentLength(value) => ("content length is not a non-negative integer", value),
        };
        write!(f, "{text}: {}", python_bytes_repr(value))
    }
}

impl std::error::Error for ResponseError<'_> {}

/// Returns the code of a status line: three digits, then the end, or a space and text without control characters. Only
/// 200 to 599 are accepted: after a 1xx response a client waits for another one (RFC 9110, 15.2), and it has to treat a
/// code of no class as a server error (15).
pub fn check_status(line: &[u8]) -> Result<u16, ResponseError<'_>> {
    let digits = match line.first_chunk::<3>() {
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return Err(ResponseError::StatusNotThreeDigits(line)),
    };
    if !matches!(line.get(3), None | Some(b' ')) {
        return Err(ResponseError::StatusWithoutSpace(line));
    }
    if line[3..].iter().any(u8::is_ascii_control) {
        return Err(ResponseError::ReasonControl(line));
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if (200..600).contains(&code) {
        Ok(code)
    } else {
        Err(ResponseError::StatusNotFinal(line))
    }
}

/// Whether a response of a status may have a body (RFC 9110, 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// With or without a body.
    Allowed,
    /// 304: no body. A declared length is that of another response.
    Elsewhere,
    /// 204: no body and no length.
    Absent,
    /// 205: no body, and the length must be 0.
    Empty,
}

impl Content {
    /// Returns the value for the code of a final response.
    pub fn of(status: u16) -> Content {
        match status {
            204 => Content::Absent,
            205 => Content::Empty,
            304 => Content::Elsewhere,
            _ => Content::Allowed,
        }
    }
}

/// Checks that `name` is a valid name of a header, which is a token.
pub fn check_header_name(name: &[u8]) -> Result<(), ResponseError<'_>> {
    if name.is_empty() {
        return Err(ResponseError::NameEmpty);
    }
    // The first bad character determines the text, as in mod_wsgi.
    match name
        .iter()
        .find(|byte| byte.is_ascii_control() || **byte == b' ')
    {
        Some(b' ') => Err(ResponseError::NameSpace(name)),
        Some(_) => Err(ResponseError::NameControl(name)),
        None if name.iter().copied().all(is_token_byte) => Ok(()),
        None => Err(ResponseError::NameNotToken(name)),
    }
}

/// Checks that `value` is a valid value of a header: no control characters but TAB.
pub fn check_header_value(value: &[u8]) -> Result<(), ResponseError<'_>> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(ResponseError::ValueLineBreak(value));
    }
    if value
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(ResponseError::ValueControl(value));
    }
    Ok(())
}

/// Parses the value of `Content-Length`: decimal digits, with optional space around them.
pub fn content_length(value: &[u8]) -> Result<u64, ResponseError<'_>> {
    parse_decimal(value).ok_or(ResponseError::ContentLength(value))
}

/// Parses a decimal number without sign; returns `None` also above 2^63 - 1, the largest number that httpd can hold.
pub(crate) fn parse_decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse::<i64>().ok()?;
    u64::try_from(number).ok()
}

/// Returns whether a header concerns only the connection between this server and its peer, so that only httpd may set
/// it.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
    ]
    .iter()
    .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Returns whether a token may contain `byte` (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns `repr(value)` as Python prints it.
pub fn python_bytes_repr(value: &[u8]) -> String {
    let quote = if value.contains(&b'\'') && !value.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut repr = format!("b{quote}");
    for &byte in value {
        match byte {
            b'\\' => repr.push_str("\\\\"),
            b'\t' => repr.push_str("\\t"),
            b'\n' => repr.push_str("\\n"),
            b'\r' => repr.push_str("\\r"),
            b' '..=b'~' => {
                if char::from(byte) == quote {
                    repr.push('\\');
                }
                repr.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => write!(repr, "\\x{byte:02x}").unwrap_or_default(),
        }
    }
    repr.push(quote);
    repr
}

/// Counts the sent bytes of a body against the declared length.
#[derive(Clone, Copy, Debug)]
pub struct BodyLength {
    declared: Option<u64>,
    taken: u64,
}

impl BodyLength {
    /// Makes a counter at 0; `declared` is the `Content-Length`, if there is one.
    pub fn new(declared: Option<u64>) -> BodyLength {
        BodyLength { declared, taken: 0 }
    }

    /// Returns how many of the next `len` bytes may be sent, and counts them; the others are surplus.
    pub fn take(&mut self, len: usize) -> usize {
        let Some(declared) = self.declared else {
            return len;
        };
        let room = usize::try_from(declared - self.taken).unwrap_or(usize::MAX);
        let taken = len.min(room);
        self.taken += taken as u64;
        taken
    }

    /// Returns whether the declared length is reached, so that nothing more can be sent.
    pub fn complete(&self) -> bool {
        self.declared == Some(self.taken)
    }

    /// Returns whether the body, if it ended here, would be shorter than declared.
    pub fn short(&self) -> bool {
        self.declared.is_some_and(|declared| declared > self.taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text<T>(result: Result<T, ResponseError<'_>>) -> String {
        result
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn only_final_statuses_are_taken() {
        for code in 0..1000_u16 {
            let line = format!("{code:03} Any");
            let taken = check_status(line.as_bytes());
            match code {
                200..=599 => assert_eq!(taken, Ok(code)),
                _ => assert_eq!(taken, Err(ResponseError::StatusNotFinal(line.as_bytes()))),
            }
        }
    }

    #[test]
    fn statuses_without_content() {
        for (status, content) in [
            (200, Content::Allowed),
            (203, Content::Allowed),
            (204, Content::Absent),
            (205, Content::Empty),
            (206, Content::Allowed),
            (303, Content::Allowed),
            (304, Content::Elsewhere),
            (305, Content::Allowed),
            (404, Content::Allowed),
        ] {
            assert_eq!(Content::of(status), content, "{status}");
        }
    }

    #[test]
    fn status_lines() {
        for (line, code) in [
            ("200 OK", 200),
            ("200", 200),
            ("200 ", 200),
            ("404 Not Found", 404),
            ("299 Odd", 299),
            ("599 \u{e4}", 599),
        ] {
            assert_eq!(check_status(line.as_bytes()), Ok(code), "{line}");
        }
        for (line, expected) in [
            ("", "status code must be a 3 digit integer: b''"),
            ("20", "status code must be a 3 digit integer: b'20'"),
            ("2x0 OK", "status code must be a 3 digit integer: b'2x0 OK'"),
            (
                " 200 OK",
                "status code must be a 3 digit integer: b' 200 OK'",
            ),
            ("2000 OK", "no space following status code: b'2000 OK'"),
            ("200OK", "no space following status code: b'200OK'"),
            ("200\tOK", "no space following status code: b'200\\tOK'"),
            (
                "200 O\nK",
                "control character in status reason phrase: b'200 O\\nK'",
            ),
            (
                "200 O\0K",
                "control character in status reason phrase: b'200 O\\x00K'",
            ),
            (
                "200 \x7f",
                "control character in status reason phrase: b'200 \\x7f'",
            ),
            (
                "103 Early Hints",
                "status code of a final response must be from 200 to 599: b'103 Early Hints'",
            ),
        ] {
            assert_eq!(text(check_status(line.as_bytes())), expected);
        }
    }

    #[test]
    fn header_names() {
        for name in ["X-Y", "etag", "x_y", "!#$%&'*+-.^_`|~09"] {
            assert_eq!(check_header_name(name.as_bytes()), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("", "header name is empty"),
            ("X Y", "space character in header name: b'X Y'"),
            ("X\nY", "control character in header name: b'X\\nY'"),
            ("X\0", "control character in header name: b'X\\x00'"),
            ("X Y\n", "space character in header name: b'X Y\\n'"),
            ("X\nY ", "control character in header name: b'X\\nY '"),
            ("(X) ", "space character in header name: b'(X) '"),
            ("X:", "invalid character in header name: b'X:'"),
            ("(X)", "invalid character in header name: b'(X)'"),
        ] {
            assert_eq!(text(check_header_name(name.as_bytes())), expected);
        }
        assert_eq!(
            text(check_header_name(b"\xe4")),
            "invalid character in header name: b'\\xe4'"
        );
    }

    #[test]
    fn header_values() {
        for value in [&b""[..], b"a b\tc", b" x ", b"\xe4\xff", b"a: b; c=\"d\""] {
            assert_eq!(check_header_value(value), Ok(()));
        }
        for (value, expected) in [
            (
                "a\r\nb",
                "carriage return/line feed character in header value: b'a\\r\\nb'",
            ),
            (
                "a\0\n",
                "carriage return/line feed character in header value: b'a\\x00\\n'",
            ),
            ("a\0", "control character in header value: b'a\\x00'"),
            ("\x1b[0m", "control character in header value: b'\\x1b[0m'"),
            ("\x7f", "control character in header value: b'\\x7f'"),
        ] {
            assert_eq!(text(check_header_value(value.as_bytes())), expected);
        }
    }

    #[test]
    fn content_lengths() {
        for (value, expected) in [
            ("0", 0),
            ("12", 12),
            ("007", 7),
            (" 5 ", 5),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(content_length(value.as_bytes()), Ok(expected));
        }
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.0",
            "0x10",
            "1 2",
            "ten",
            "9223372036854775808",
        ] {
            let expected = format!("content length is not a non-negative integer: b'{value}'");
            assert_eq!(text(content_length(value.as_bytes())), expected);
        }
    }

    #[test]
    fn reprs_are_pythons() {
        for (bytes, expected) in [
            (&b""[..], "b''"),
            (b"it's", "b\"it's\""),
            (b"\"", "b'\"'"),
            (b"'\"", "b'\\'\"'"),
            (b"\\", "b'\\\\'"),
            (
                b"\t\n\r\0\x1f\x7f\x80\xff~ ",
                "b'\\t\\n\\r\\x00\\x1f\\x7f\\x80\\xff~ '",
            ),
        ] {
            assert_eq!(python_bytes_repr(bytes), expected);
        }
    }

    #[test]
    fn hop_by_hop_headers_in_any_case() {
        for name in [
            "connection",
            "KEEP-ALIVE",
            "te",
            "Trailer",
            "trailers",
            "transfer-encoding",
            "Upgrade",
            "Proxy-Connection",
        ] {
            assert!(is_hop_by_hop(name.as_bytes()), "{name}");
        }
        for name in ["Content-Length", "Date", "Proxy-Authenticate", ""] {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn an_undeclared_body_takes_everything() {
        let mut body = BodyLength::new(None);
        assert_eq!(body.take(7), 7);
        assert_eq!((body.complete(), body.short()), (false, false));
    }

    #[test]
    fn an_empty_declared_body_is_complete_at_once() {
        let mut body = BodyLength::new(Some(0));
        assert_eq!(
            (body.complete(), body.short(), body.take(1)),
            (true, false, 0)
        );
    }

    proptest! {
        #[test]
        fn a_declared_body_is_never_exceeded(declared in 0_u64..50, chunks in proptest::collection::vec(0_usize..20, 0..8)) {
            let mut body = BodyLength::new(Some(declared));
            let produced: usize = chunks.iter().sum();
            let sent: usize = chunks.iter().map(|&len| body.take(len)).sum();
            prop_assert_eq!(sent as u64, declared.min(produced as u64));
            prop_assert_eq!(body.complete(), sent as u64 == declared);
            prop_assert_eq!(body.short(), (sent as u64) < declared);
        }
    }
}
