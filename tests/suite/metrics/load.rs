//! Clients that count the responses themselves, by application, method and class of the status.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{Connection, Mpm, Over, Request, Server};

/// Application, method and class, as in the labels of `wsgi_requests_total`.
pub(super) type Key = (&'static str, &'static str, &'static str);

/// The counts of all clients together.
#[derive(Default)]
pub(super) struct Load {
    /// Tells the clients to stop.
    pub(super) over: Over,
    complete: Mutex<BTreeMap<Key, u64>>,
    /// Requests that were sent in part or completely, without a complete response; by application.
    cut: Mutex<BTreeMap<&'static str, u64>>,
    done: AtomicU64,
}

/// One kind of request.
struct Kind {
    app: &'static str,
    method: &'static str,
    path: &'static str,
    /// The value of the label.
    class: &'static str,
    body: usize,
    /// One in `every` requests is of this kind.
    every: u64,
}

const fn kind(
    app: &'static str,
    method: &'static str,
    path: &'static str,
    class: &'static str,
    body: usize,
    every: u64,
) -> Kind {
    Kind {
        app,
        method,
        path,
        class,
        body,
        every,
    }
}

/// The rarest kind comes first: the first kind whose turn it is, is taken. All bodies but one are below the limit.
const KINDS: &[Kind] = &[
    kind("/main", "GET", "/fork", "2xx", 0, 211),
    kind("/m", "GET", "/large", "cut", 0, 199),
    kind("/m", "POST", "/echo", "4xx", 200_000, 101),
    kind("/m", "GET", "/close", "2xx", 0, 97),
    kind("/m", "GET", "/iterate", "5xx", 0, 89),
    kind("/m", "GET", "/protocol", "5xx", 0, 83),
    kind("/m", "GET", "/slow", "2xx", 0, 79),
    kind("/m", "GET", "/contend", "2xx", 0, 73),
    kind("/m", "GET", "/collect", "2xx", 0, 41),
    kind("/m", "GET", "/log", "2xx", 0, 37),
    kind("/m", "GET", "/call", "5xx", 0, 31),
    kind("/m", "BREW", "/ok", "2xx", 0, 29),
    kind("/m", "GET", "/status/302", "3xx", 0, 23),
    kind("/m", "GET", "/status/503", "5xx", 0, 19),
    kind("/m", "POST", "/status/404", "4xx", 0, 17),
    kind("/edited", "GET", "", "2xx", 0, 13),
    kind("/main", "GET", "/ok", "2xx", 0, 11),
    kind("/m", "POST", "/echo", "2xx", 3000, 7),
    kind("/fast", "HEAD", "", "2xx", 0, 5),
    kind("/m", "GET", "/ok", "2xx", 0, 2),
    kind("/fast", "GET", "", "2xx", 0, 1),
];

/// The largest body that the server accepts, between the sizes above.
pub(super) const BODY_LIMIT: usize = 100_000;

/// The number of requests on one connection.
const REUSE: u64 = 8;

impl Load {
    /// Runs one client until it is told to stop.
    pub(super) fn run(&self, server: &Server, first: u64) {
        // The event MPM closes connections that wait for their next request if it lacks workers.
        let reuse = if server.mpm() == Mpm::Event { 1 } else { REUSE };
        let mut connection: Option<Connection> = None;
        for number in first * 1000.. {
            if self.over.is_over() {
                return;
            }
            if number % reuse == 0 {
                connection = None;
            }
            let turn = |kind: &&Kind| number % kind.every == kind.every - 1;
            let kind = KINDS.iter().find(turn).expect("the last one is always");
            connection = self.ask(server, kind, connection);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends one request. Returns the connection if it can be reused.
    fn ask(
        &self,
        server: &Server,
        kind: &Kind,
        connection: Option<Connection>,
    ) -> Option<Connection> {
        // If there is no connection, nothing was sent.
        let mut connection = connection.or_else(|| Connection::open(server.address()).ok())?;
        let target = format!("{}{}", kind.app, kind.path);
        let mut request = Request::new(kind.method, &target).keep_alive();
        if kind.body > 0 {
            request = request.body(vec![b'x'; kind.body]);
        }
        if kind.class == "cut" {
            let sent = connection.try_send(request.to_bytes());
            if sent.is_ok() {
                // Waits until the response has begun, which shows that the application has the request.
                let _ = connection.read_head();
            }
            connection.abort();
            self.note_cut(kind.app);
            return None;
        }
        match connection.exchange(&request) {
            Ok(response) if response.is_complete() => {
                let class = class_of(response.status());
                // An unexpected response is recorded by its class, and the server must have counted it so.
                let key = (kind.app, method_of(kind.method), class);
                *self.complete.lock().unwrap().entry(key).or_default() += 1;
                let stays = response.header("Connection") != Some("close");
                (stays && class == kind.class).then_some(connection)
            }
            _ => {
                self.note_cut(kind.app);
                None
            }
        }
    }

    fn note_cut(&self, app: &'static str) {
        *self.cut.lock().unwrap().entry(app).or_default() += 1;
    }

    /// Whether the clients were told to stop.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_over()
    }

    /// Returns the number of requests, however they ended.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns the number of complete responses.
    pub(super) fn complete(&self) -> BTreeMap<Key, u64> {
        self.complete.lock().unwrap().clone()
    }

    /// Returns the number of requests without a complete response.
    pub(super) fn cut(&self) -> BTreeMap<&'static str, u64> {
        self.cut.lock().unwrap().clone()
    }
}

fn class_of(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn method_of(method: &'static str) -> &'static str {
    if method == "BREW" { "_OTHER" } else { method }
}
