//! An HTTP client that shows details which usual clients hide: raw bytes, the end of a chunked body, connections that
//! end in the middle. Every read has a time limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use httparse::Status;

use crate::client::request::Request;
use crate::client::response::{Ending, Head, Response};

/// Why there is no response.
#[derive(Debug)]
pub enum ClientError {
    /// The socket refused, failed or was silent for too long.
    Io(io::Error),
    /// The received bytes are not HTTP, or ended in the middle of the head.
    Malformed(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Io(error) => write!(f, "socket: {error}"),
            ClientError::Malformed(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Io(error)
    }
}

/// A connection to the server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a connection.
    pub fn open(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request and reads its response.
    pub fn exchange(&mut self, request: &Request) -> Result<Response, ClientError> {
        // A server may answer and close before it has read the whole body: then its response counts, not the failed
        // send.
        let sent = self.stream.write_all(&request.to_bytes());
        match self.read_response(request.method()) {
            Err(ClientError::Malformed(_)) if sent.is_err() => Err(sent.unwrap_err().into()),
            other => other,
        }
    }

    /// Sends bytes unchanged, and ends the test if that fails.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes unchanged.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Closes the sending direction; reading goes on.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection by a reset, like a client that crashed or a proxy that gave up.
    pub fn abort(self) {
        let now = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, now).unwrap();
    }

    /// Reads one response. The request's method decides whether a body follows.
    pub fn read_response(&mut self, method: &str) -> Result<Response, ClientError> {
        let head = self.read_head()?;
        let mut chunks = Vec::new();
        let mut body = Vec::new();
        let no_body = method == "HEAD" || head.status < 200 || matches!(head.status, 204 | 304);
        let ending = if no_body {
            Ending::NoBody
        } else if head.is_chunked() {
            loop {
                match self.read_chunk()? {
                    Some(chunk) if chunk.is_empty() => break Ending::Chunked,
                    Some(chunk) => chunks.push(chunk),
                    None => break Ending::Cut,
                }
            }
        } else if let Some(length) = head.length() {
            let complete = self.fill(length)?;
            body = self.take(length);
            if complete {
                Ending::Length
            } else {
                Ending::Cut
            }
        } else {
            while self.more()? {}
            body = std::mem::take(&mut self.buffer);
            Ending::Closed
        };
        if !chunks.is_empty() {
            body = chunks.concat();
        }
        Ok(Response {
            head,
            body,
            chunks,
            ending,
        })
    }

    /// Reads the status line and the headers.
    pub fn read_head(&mut self) -> Result<Head, ClientError> {
        loop {
            let mut fields = vec![httparse::EMPTY_HEADER; MOST_FIELDS];
            let mut parser = httparse::Response::new(&mut fields);
            // The parser would skip empty lines here, but after the previous response there must be none.
            let parsed = match self.buffer.first() {
                Some(b'\r' | b'\n') => Err(httparse::Error::Token),
                _ => parser.parse(&self.buffer),
            };
            match parsed {
                Ok(Status::Complete(length)) => {
                    let head = Head::of(&parser);
                    self.take(length);
                    return Ok(head);
                }
                Ok(Status::Partial) => {
                    if !self.more()? {
                        return Err(ClientError::Malformed(format!(
                            "the connection ended in the head: {:?}",
                            String::from_utf8_lossy(&self.buffer)
                        )));
                    }
                }
                Err(error) => {
                    return Err(ClientError::Malformed(format!(
                        "not a head, {error}: {:?}",
                        String::from_utf8_lossy(&self.buffer)
                    )));
                }
            }
        }
    }

    /// Reads one chunk. The empty chunk is the terminating one; `None` means that the connection ended without it.
    pub fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let size = loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(Status::Complete((length, size))) => {
                    self.take(length);
                    break usize::try_from(size).expect("a chunk fits into memory");
                }
                Ok(Status::Partial) => {
                    if !self.more()? {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    return Err(ClientError::Malformed(format!(
                        "{error}: {:?}",
                        String::from_utf8_lossy(&self.buffer)
                    )));
                }
            }
        };
        if !self.fill(size + 2)? {
            return Ok(None);
        }
        let mut chunk = self.take(size + 2);
        if !chunk.ends_with(b"\r\n") {
            return Err(ClientError::Malformed(
                "a chunk without its line end".into(),
            ));
        }
        chunk.truncate(size);
        Ok(Some(chunk))
    }

    /// Reads until the other side closes.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Passes all bytes to `take` until the other side closes, and keeps none of them.
    pub fn read_rest(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), ClientError> {
        loop {
            take(&std::mem::take(&mut self.buffer));
            if !self.more()? {
                return Ok(());
            }
        }
    }

    /// Whether the server closes the connection instead of keeping it for the next request.
    pub fn is_closed_by_server(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let closed = matches!(self.more(), Ok(false));
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        closed
    }

    /// Whether the server sends nothing for this time.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let silent = match self.more() {
            Err(ClientError::Io(error)) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                )
            }
            _ => false,
        };
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        silent
    }

    /// Reads until `wanted` bytes are there. Returns false if the connection ended before.
    fn fill(&mut self, wanted: usize) -> Result<bool, ClientError> {
        while self.buffer.len() < wanted {
            if !self.more()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.buffer.len());
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads once; returns false at the end. A reset counts as an end, because that is how a server closes while there
    /// is unread input.
    fn more(&mut self) -> Result<bool, ClientError> {
        let mut block = [0; 64 * 1024];
        let read = loop {
            match self.stream.read(&mut block) {
                // This process was stopped and continued.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.buffer.extend_from_slice(&block[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Longer than httpd's own `Timeout` in the tests, so that httpd gives up first.
const LIMIT: Duration = Duration::from_secs(30);
/// The most header fields of a response; no test has nearly as many.
const MOST_FIELDS: usize = 4096;
