//! An HTTP client that shows what a comfortable one hides: raw bytes, the end of a chunked body, connections cut
//! in the middle. Every read has a time limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Why there is no response.
#[derive(Debug)]
pub enum ClientError {
    /// The socket refused, broke or kept silent for too long.
    Io(io::Error),
    /// What came is not HTTP, or ended in the middle of the head.
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

/// A request to send. `Host: localhost` and `Connection: close` unless said otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
    keep_alive: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Bytes(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
}

impl Request {
    /// Any method, no body.
    pub fn new(method: &str, target: &str) -> Self {
        Request {
            method: method.into(),
            target: target.into(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Body::None,
            keep_alive: false,
        }
    }

    /// `GET`.
    pub fn get(target: &str) -> Self {
        Request::new("GET", target)
    }

    /// `POST` with a body and its Content-Length.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Request::new("POST", target).body(body)
    }

    /// A body with its Content-Length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Bytes(body.as_ref().into());
        self
    }

    /// A body in these chunks.
    pub fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.body = Body::Chunks(chunks.iter().map(|chunk| chunk.to_vec()).collect());
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    /// Leaves the connection open afterwards.
    pub fn keep_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }

    /// Speaks HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The request target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The bytes of the whole request.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        match &self.body {
            Body::None => {}
            Body::Bytes(body) => bytes.extend(body),
            Body::Chunks(chunks) => {
                for chunk in chunks {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }

    /// The bytes up to the body.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} {}\r\n", self.method, self.target, self.version).into_bytes();
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        let mut line = |name: &str, value: &[u8]| {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        };
        if !has("Host") {
            line("Host", b"localhost");
        }
        if !has("Connection") {
            line(
                "Connection",
                if self.keep_alive {
                    b"keep-alive"
                } else {
                    b"close"
                },
            );
        }
        match &self.body {
            Body::None => {}
            Body::Bytes(body) if !has("Content-Length") => {
                line("Content-Length", body.len().to_string().as_bytes());
            }
            Body::Bytes(_) => {}
            Body::Chunks(_) => line("Transfer-Encoding", b"chunked"),
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        bytes.extend(b"\r\n");
        bytes
    }
}

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
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn is_chunked(&self) -> bool {
        self.header("Transfer-Encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }
}

/// How a response's body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// There is none: HEAD, 1xx, 204, 304.
    NoBody,
    /// As many bytes came as Content-Length said.
    Length,
    /// The terminating chunk came.
    Chunked,
    /// Neither length nor chunks: the end of the connection is the end of the body.
    Closed,
    /// The connection ended before Content-Length or the terminating chunk said so.
    Cut,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// The body, dechunked.
    pub body: Vec<u8>,
    /// The chunks as they came, when there were chunks.
    pub chunks: Vec<Vec<u8>>,
    /// How the body ended.
    pub ending: Ending,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
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

    /// Whether nothing of the body is missing.
    pub fn is_complete(&self) -> bool {
        self.ending != Ending::Cut
    }
}

/// A connection to the server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
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
        // A server may answer and close before it has read the whole body: what it said counts, not the failed send.
        let sent = self.stream.write_all(&request.to_bytes());
        match self.read_response(request.method()) {
            Err(ClientError::Malformed(_)) if sent.is_err() => Err(sent.unwrap_err().into()),
            other => other,
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes as they are.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection by a reset, as a client that crashed or a proxy that gave up.
    pub fn abort(self) {
        let now = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, now).unwrap();
    }

    /// Reads one response. What the request's method was decides whether a body follows.
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

    /// Reads status line and headers.
    pub fn read_head(&mut self) -> Result<Head, ClientError> {
        let Some(status_line) = self.read_line()? else {
            return Err(ClientError::Malformed(
                "the connection ended before a response".into(),
            ));
        };
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
            return Err(ClientError::Malformed(format!(
                "not a status line: {status_line:?}"
            )));
        };
        let mut head = Head {
            status,
            reason: words.next().unwrap_or_default().into(),
            headers: Vec::new(),
        };
        loop {
            match self.read_line()? {
                None => {
                    return Err(ClientError::Malformed(
                        "the connection ended in the headers".into(),
                    ));
                }
                Some(line) if line.is_empty() => return Ok(head),
                Some(line) => match line.split_once(':') {
                    Some((name, value)) => head.headers.push((name.into(), value.trim().into())),
                    None => return Err(ClientError::Malformed(format!("not a header: {line:?}"))),
                },
            }
        }
    }

    /// Reads one chunk; the empty one is the terminating chunk, none means that the connection ended without it.
    pub fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(line) = self.read_line()? else {
            return Ok(None);
        };
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return Err(ClientError::Malformed(format!(
                "not a chunk size: {line:?}"
            )));
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

    /// Reads whatever comes until the other side closes.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, ClientError> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Hands over what comes until the other side closes, and keeps none of it.
    pub fn read_rest(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), ClientError> {
        loop {
            take(&std::mem::take(&mut self.buffer));
            if !self.more()? {
                return Ok(());
            }
        }
    }

    /// Whether the server closes the connection, rather than keeping it for the next request.
    pub fn is_closed_by_server(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let closed = matches!(self.more(), Ok(false));
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
        closed
    }

    /// Whether nothing comes for a while.
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

    /// None when the connection ended before a whole line.
    fn read_line(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.take(end + 1);
                let line = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
                return Ok(Some(line.iter().map(|byte| char::from(*byte)).collect()));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// False when the connection ended before so many bytes had come.
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

    /// Reads once; false at the end. A reset counts as an end: the server closes so on unread input.
    fn more(&mut self) -> Result<bool, ClientError> {
        let mut block = [0; 64 * 1024];
        let read = loop {
            match self.stream.read(&mut block) {
                // A process that was stopped and goes on is told so by this.
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

/// Longer than httpd's own `Timeout` in the tests, so that it is httpd who gives up first.
const LIMIT: Duration = Duration::from_secs(30);
