//! Requests, and their bytes.

/// A request to send. It has `Host: localhost` and `Connection: close` unless the test says otherwise.
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
    /// Returns a request with any method and no body.
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

    /// Returns a `GET` request.
    pub fn get(target: &str) -> Self {
        Request::new("GET", target)
    }

    /// Returns a `POST` request with a body and its Content-Length.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Request::new("POST", target).body(body)
    }

    /// Adds a body with its Content-Length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Bytes(body.as_ref().into());
        self
    }

    /// Adds a body in these chunks.
    pub fn chunked(mut self, chunks: &[&[u8]]) -> Self {
        self.body = Body::Chunks(chunks.iter().map(|chunk| chunk.to_vec()).collect());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    /// Keeps the connection open after the response.
    pub fn keep_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }

    /// Uses HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Returns the method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the request target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the bytes of the whole request.
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

    /// Returns the bytes before the body.
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
