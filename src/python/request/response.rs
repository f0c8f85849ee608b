//! The response on its way from `start_response` to the host: validated status and headers, the declared length, and
//! the part of the body that is collected until Python is left.

use wsgi_abi::{Bytes, Header};
use wsgi_core::request::fault::Progress;
use wsgi_core::request::response::{self, BodyLength, Content};

/// The largest body, or last part of one, that is copied and sent after Python was left; in bytes. More is sent at once
/// with the GIL released.
pub(crate) const COLLECT_LIMIT: usize = 64 * 1024;

/// Status line and headers, in one buffer.
#[derive(Default)]
pub(crate) struct Head {
    status: u16,
    status_len: usize,
    /// The status line, then name and value of each header.
    text: Vec<u8>,
    /// Lengths of the name and the value of each header.
    headers: Vec<(usize, usize)>,
    /// The length that the application declared.
    content_length: Option<u64>,
}

impl Head {
    /// Begins with a status line, which it validates. The error is the text of the exception.
    pub(crate) fn new(status_line: &[u8]) -> Result<Self, String> {
        let status = response::check_status(status_line).map_err(|error| error.to_string())?;
        let mut text = Vec::with_capacity(512);
        text.extend_from_slice(status_line);
        Ok(Self {
            status,
            status_len: status_line.len(),
            text,
            headers: Vec::with_capacity(12),
            content_length: None,
        })
    }

    /// Adds a header after validating it. Hop-by-hop headers are httpd's business: `Connection: close` passes, the
    /// others are dropped, and the result is `false`.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<bool, String> {
        response::check_header_name(name).map_err(|error| error.to_string())?;
        response::check_header_value(value).map_err(|error| error.to_string())?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = response::content_length(value).map_err(|error| error.to_string())?;
            self.content_length = Some(length);
            return Ok(true);
        }
        let is_close = name.eq_ignore_ascii_case(b"connection")
            && value.trim_ascii().eq_ignore_ascii_case(b"close");
        if response::is_hop_by_hop(name) && !is_close {
            return Ok(false);
        }
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.headers.push((name.len(), value.len()));
        Ok(true)
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Returns what kind of body the status allows.
    fn content(&self) -> Content {
        Content::of(self.status)
    }

    /// Passes the status line and the headers to `with`, in the form of the ABI.
    pub(crate) fn with_raw<R>(&self, with: impl FnOnce(&[u8], &[Header<'_>]) -> R) -> R {
        const FEW: usize = 24;
        let (status_line, mut rest) = self.text.split_at(self.status_len);
        let mut next = |&(name, value): &(usize, usize)| {
            let (name, tail) = rest.split_at(name);
            let (value, tail) = tail.split_at(value);
            rest = tail;
            Header {
                name: Bytes::new(name),
                value: Bytes::new(value),
            }
        };
        if self.headers.len() <= FEW {
            let mut few = [Header {
                name: Bytes::ABSENT,
                value: Bytes::ABSENT,
            }; FEW];
            for (slot, lengths) in few.iter_mut().zip(&self.headers) {
                *slot = next(lengths);
            }
            with(status_line, &few[..self.headers.len()])
        } else {
            let many: Vec<Header> = self.headers.iter().map(next).collect();
            with(status_line, &many)
        }
    }
}

/// The state of a response.
pub(crate) struct Response {
    head: Option<Head>,
    committed: bool,
    length: BodyLength,
    /// The status for events and for the log; 500 until `start_response` succeeds.
    status: u16,
    /// The method is HEAD: the client gets no body, whatever is declared.
    header_only: bool,
    /// The status that was sent allows no body.
    without_content: bool,
    /// The application gave a body though the status allows none.
    refused: bool,
    /// Nothing of the body will be sent, because httpd makes its own page.
    is_unwanted: bool,
    /// The end of the body has been sent.
    is_ended: bool,
    /// How often `write()` was called after everything was sent, and the stamp of the first such call.
    beyond: (u32, u64),
    /// The bytes that are sent after Python was left.
    pub(crate) pending: Vec<u8>,
}

/// The head, on its way to the host, with the length to announce.
pub(crate) struct Commit {
    pub(crate) head: Head,
    pub(crate) content_length: Option<u64>,
}

impl Response {
    pub(crate) fn new(header_only: bool) -> Self {
        Self {
            head: None,
            committed: false,
            length: BodyLength::new(None),
            status: 500,
            header_only,
            without_content: false,
            refused: false,
            is_unwanted: false,
            is_ended: false,
            beyond: (0, 0),
            pending: Vec::new(),
        }
    }

    /// Whether the head was handed to the host.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Whether there has been output, after which the head cannot change any more.
    pub(crate) fn has_output(&self) -> bool {
        self.committed || !self.pending.is_empty()
    }

    /// Whether `start_response` was called.
    pub(crate) fn is_started(&self) -> bool {
        self.head.is_some() || self.committed
    }

    /// Takes the head from `start_response`. A second head before any output replaces the first. Returns `false` where
    /// it is too late.
    pub(crate) fn start(&mut self, head: Head) -> bool {
        if self.has_output() {
            return false;
        }
        self.status = head.status;
        self.head = Some(head);
        true
    }

    /// Returns the status of the response.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Returns the declared length, before the commit.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.head.as_ref().and_then(Head::content_length)
    }

    /// Whether the status from `start_response` allows no body.
    pub(crate) fn is_without_content(&self) -> bool {
        let head = self.head.as_ref();
        head.is_some_and(|head| head.content() != Content::Allowed)
    }

    /// Takes the head for the host. `known` is the length of the whole body, if it is known; it becomes the `Content-Length`
    /// if the application declared none. In the response to a HEAD request a known length of 0 does not: such a response
    /// has no body to be counted. Returns `None` if the head was taken already or there is none.
    pub(crate) fn commit(&mut self, known: Option<u64>) -> Option<Commit> {
        let head = self.head.take()?;
        self.committed = true;
        let content = head.content();
        let content_length = match content {
            Content::Allowed => {
                let known = known.filter(|&known| known != 0 || !self.header_only);
                head.content_length.or(known)
            }
            Content::Elsewhere => head.content_length,
            Content::Absent => None,
            Content::Empty => Some(0),
        };
        self.without_content = content != Content::Allowed;
        self.length = BodyLength::new(if self.without_content {
            Some(0)
        } else {
            content_length
        });
        Some(Commit {
            head,
            content_length,
        })
    }

    /// Does the same as [`Self::commit`], with `length` in place of the length that the application declared.
    pub(crate) fn commit_with_length(&mut self, length: u64) -> Option<Commit> {
        if let Some(head) = &mut self.head {
            head.content_length = Some(length);
        }
        self.commit(None)
    }

    /// Returns how many of the next `len` bytes may be sent. The surplus over the declared length is dropped.
    pub(crate) fn take(&mut self, len: usize) -> usize {
        self.refused |= self.without_content && !self.header_only && len > 0;
        self.length.take(len)
    }

    /// Returns the status of a response that had a body though the status allows none.
    pub(crate) fn refused(&self) -> Option<u16> {
        self.refused.then_some(self.status)
    }

    /// Whether everything that was declared has been taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.committed && self.length.complete()
    }

    /// Whether nothing that the application gives from now on is sent: the declared length has been taken, or the head
    /// was sent and no body is wanted.
    pub(crate) fn is_over(&self) -> bool {
        self.committed && (self.header_only || self.is_unwanted || self.length.complete())
    }

    /// Notes a call of `write()` at the stamp `now`, though nothing more is sent. Returns how often that happened, and
    /// the stamp of the first time.
    pub(crate) fn goes_beyond(&mut self, now: u64) -> (u32, u64) {
        if self.beyond.0 == 0 {
            self.beyond.1 = now;
        }
        self.beyond.0 = self.beyond.0.saturating_add(1);
        self.beyond
    }

    /// Notes that nothing of the body will be sent.
    pub(crate) fn note_unwanted(&mut self) {
        self.is_unwanted = true;
    }

    /// Whether the end of the body has been sent.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Notes that the end of the body is on its way.
    pub(crate) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Undoes [`Self::end`]: the end of the body was not sent.
    pub(crate) fn reopen(&mut self) {
        self.is_ended = false;
    }

    /// Notes a body that the status does not allow, and that is not read.
    pub(crate) fn refuse_body(&mut self) {
        self.refused |= !self.header_only;
    }

    /// Returns how far the response has come.
    pub(crate) fn progress(&self) -> Progress {
        if self.is_ended {
            Progress::Ended
        } else if self.committed {
            Progress::Begun
        } else if self.is_collected_whole() {
            Progress::Whole
        } else {
            Progress::Nothing
        }
    }

    /// Whether everything that was declared is in `pending`.
    fn is_collected_whole(&self) -> bool {
        !self.committed
            && self
                .declared()
                .is_some_and(|declared| declared > 0 && self.pending.len() as u64 >= declared)
    }

    /// Whether less than the declared length has been taken, in a response that should have a body.
    pub(crate) fn is_short(&self) -> bool {
        self.committed && !self.header_only && self.length.short()
    }
}
