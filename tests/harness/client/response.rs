//! Responses, with details that usual clients hide: chunks, and how the body ended.

use serde_json::Value;

/// Status line and headers.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Names as sent, values decoded as latin-1.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Returns the first header of that name, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Returns all headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Returns the head of a response that was read completely.
    pub(super) fn of(parsed: &httparse::Response<'_, '_>) -> Self {
        let latin1 = |value: &[u8]| value.iter().map(|byte| char::from(*byte)).collect();
        let fields = parsed.headers.iter();
        Head {
            status: parsed.code.expect("a whole head has a status"),
            reason: parsed.reason.unwrap_or_default().into(),
            headers: fields
                .map(|field| (field.name.into(), latin1(field.value)))
                .collect(),
        }
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    pub(super) fn length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }
}

/// How a response's body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// There is no body: HEAD, 1xx, 204, 304.
    NoBody,
    /// The body had as many bytes as Content-Length said.
    Length,
    /// The terminating chunk came.
    Chunked,
    /// There is neither length nor chunks: the end of the connection is the end of the body.
    Closed,
    /// The connection ended before the body was complete by Content-Length or the terminating chunk.
    Cut,
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// The body, dechunked.
    pub body: Vec<u8>,
    /// The chunks as received, if the body was chunked.
    pub chunks: Vec<Vec<u8>>,
    /// How the body ended.
    pub ending: Ending,
}

impl Response {
    /// Returns the status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Ends the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{:?}\n{}", self.head, self.text());
        self
    }

    /// Whether the body is complete.
    pub fn is_complete(&self) -> bool {
        self.ending != Ending::Cut
    }
}
