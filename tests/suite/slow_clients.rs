//! Hundreds of clients that send and receive slowly do not delay others: a thread that waits for a client holds neither
//! the GIL nor a permit.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Mpm, Request, Server, eventually_within, long, ours_only};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};

#[test]
fn with_threads_that_delegate() {
    others_are_as_fast_as_ever("", if long() { 500 } else { 100 });
}

#[test]
fn with_a_pool() {
    others_are_as_fast_as_ever("WSGIThreadPool size=4", if long() { 500 } else { 100 });
}

/// There are many more slow clients than `threads=`, which limits the requests inside Python.
#[test]
fn in_a_process_group() {
    let conf = "WSGISocketPrefix ${ROOT}/wsgi
        WSGIDaemonProcess site threads=5
        WSGIProcessGroup site";
    others_are_as_fast_as_ever(conf, if long() { 200 } else { 50 });
}

/// Measures requests beside this number of slow senders, and as many slow readers.
fn others_are_as_fast_as_ever(conf: &str, each: usize) {
    ours_only!("mod_wsgi has one executor");
    let window = Duration::from_secs(if long() { 8 } else { 3 });
    allow_descriptors(8 * each as u64 + 1000);
    let threads = 2 * each + 100;
    let server = Server::builder(Mpm::Event)
        .pool(1, threads)
        .one_child()
        .metrics()
        .app("/slow", "slow.wsgi")
        .conf(&format!("ThreadLimit {threads}"))
        // Otherwise the kernel would take the responses from the server at once.
        .conf("SendBufferSize 16384")
        .own_executor()
        .conf(conf)
        .start();
    server.get("/slow/fast").expect(200);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let idle = percentile_99(&server, window);
        let slow = SlowClients::during(&server, each, || percentile_99(&server, window));
        eprintln!(
            "{conf}: {idle:?} without and {slow:?} with {each} slow senders and {each} slow readers"
        );
        seen.push((idle, slow));
        // The speed is a question for a quiet machine. On any machine, a request behind a slow client would time out.
        if !long() || is_as_fast(idle, slow) {
            return;
        }
    }
    panic!("without and with slow clients: {seen:?}");
}

/// If a request takes only a moment, twice that is within the noise of the machine.
fn is_as_fast(idle: Duration, slow: Duration) -> bool {
    slow <= (idle * 2).max(Duration::from_millis(4))
}

/// Returns the 99th percentile of the requests of four clients that pause between requests.
fn percentile_99(server: &Server, time: Duration) -> Duration {
    let began = Instant::now();
    let one = || {
        let request = Request::get("/slow/fast").keep_alive();
        let (mut connection, mut took) = (server.connect(), Vec::new());
        while began.elapsed() < time {
            let sent = Instant::now();
            let answer = connection.exchange(&request).unwrap().expect(200);
            took.push(sent.elapsed());
            assert_eq!(answer.text(), "fast");
            if answer.header("Connection") == Some("close") {
                connection = server.connect();
            }
            thread::sleep(Duration::from_millis(2));
        }
        took
    };
    let mut all: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    all.sort_unstable();
    assert!(all.len() > 100, "{} requests in {time:?}", all.len());
    all[all.len() * 99 / 100]
}

/// Bytes of a body that is sent slowly; it is so small that it would be read ahead if it came in time.
const BODY: usize = 60_000;
/// The interval at which a slow client sends or receives something, and how much.
const PERIOD: Duration = Duration::from_millis(500);
const SENT: usize = 500;
const RECEIVED: usize = 6_000;

/// Many slow clients, driven by one thread.
struct SlowClients {
    /// The number of clients to which the server has begun to respond, or that have sent some of their body.
    begun: AtomicUsize,
    /// The work is done: the clients now go on as fast as they can.
    hurry: AtomicBool,
}

impl SlowClients {
    /// Runs `work` while `each` clients of each kind are in the middle of a request. In the end all of them must get
    /// the expected response.
    fn during<R>(server: &Server, each: usize, work: impl FnOnce() -> R) -> R {
        struct Hurry<'a>(&'a AtomicBool);
        impl Drop for Hurry<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let all = Self {
            begun: AtomicUsize::new(0),
            hurry: AtomicBool::new(false),
        };
        let address = server.address();
        thread::scope(|scope| {
            let driver = scope.spawn(|| all.drive(address, each));
            let result = {
                let _hurry = Hurry(&all.hurry);
                let is_full = eventually_within(Duration::from_secs(60), || {
                    let page = server.metrics();
                    let inside = page.sum("wsgi_requests_in_flight", &[("app", "/slow")]);
                    let begun = all.begun.load(Ordering::Relaxed);
                    (begun == 2 * each && inside >= each as f64).then_some(())
                });
                assert!(is_full.is_some(), "not all slow clients have begun");
                work()
            };
            driver.join().unwrap();
            result
        })
    }

    fn drive(&self, address: SocketAddr, each: usize) {
        let body: Vec<u8> = (0..BODY).map(|at| (at * 7 % 251) as u8).collect();
        let mut clients = Vec::new();
        for number in 0..2 * each {
            let kind = if number % 2 == 0 {
                Kind::Sender
            } else {
                Kind::Reader
            };
            clients.push(Slow::connect(address, kind, &body));
            self.step(&mut clients);
        }
        let mut end = None;
        while clients.iter().any(|client| !client.is_done) {
            self.step(&mut clients);
            if self.hurry.load(Ordering::Relaxed) {
                let end = *end.get_or_insert_with(|| Instant::now() + Duration::from_secs(120));
                assert!(
                    Instant::now() < end,
                    "slow clients that hurry are not served"
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        let large: Vec<u8> = (0..125_000)
            .flat_map(|at| format!("{at:07};").into_bytes())
            .collect();
        let mut answers: Vec<_> = clients
            .iter()
            .map(|client| (client.kind, client.answer()))
            .collect();
        answers.dedup();
        let expected = |kind: Kind| answers.iter().filter(move |(of, _)| *of == kind);
        assert!(
            expected(Kind::Reader).all(|(_, answer)| *answer == large),
            "a reader has got something else"
        );
        // The hash is the same for all, and the length shows that nothing is missing.
        let mut sums: Vec<_> = expected(Kind::Sender).map(|(_, answer)| answer).collect();
        sums.dedup();
        let told = String::from_utf8_lossy(sums[0]);
        assert!(
            sums.len() == 1 && told.starts_with("60000 "),
            "{told} and {} others",
            sums.len() - 1
        );
    }

    fn step(&self, clients: &mut [Slow]) {
        let hurry = self.hurry.load(Ordering::Relaxed);
        let now = Instant::now();
        for client in clients
            .iter_mut()
            .filter(|client| !client.is_done && (hurry || now >= client.due))
        {
            let has_begun = client.has_begun();
            client.move_on(hurry);
            client.due = now + PERIOD;
            if !has_begun && client.has_begun() {
                self.begun.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sender,
    Reader,
}

/// One slow client.
struct Slow {
    stream: TcpStream,
    kind: Kind,
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    due: Instant,
    is_done: bool,
}

impl Slow {
    fn connect(address: SocketAddr, kind: Kind, body: &[u8]) -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        // The buffer is set before the connection, otherwise the client announces a larger window.
        sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        let mut stream = TcpStream::from(socket);
        let (request, to_send) = match kind {
            Kind::Sender => (Request::post("/slow/up", body), body.to_vec()),
            Kind::Reader => (Request::get("/slow/down"), Vec::new()),
        };
        stream.write_all(&request.head_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self {
            stream,
            kind,
            to_send,
            sent: 0,
            received: Vec::new(),
            due: Instant::now(),
            is_done: false,
        }
    }

    fn has_begun(&self) -> bool {
        match self.kind {
            Kind::Sender => self.sent != 0,
            Kind::Reader => !self.received.is_empty(),
        }
    }

    /// Sends or receives some bytes, if it can.
    fn move_on(&mut self, hurry: bool) {
        let pace = if hurry { 64 } else { 1 };
        let moved = if self.sent < self.to_send.len() {
            let end = self.to_send.len().min(self.sent + pace * SENT);
            let sent = self.stream.write(&self.to_send[self.sent..end]);
            sent.map(|count| self.sent += count)
        } else {
            let mut buffer = [0; 64 * RECEIVED];
            let got = self.stream.read(&mut buffer[..pace * RECEIVED]);
            got.map(|count| {
                self.received.extend(&buffer[..count]);
                self.is_done = count == 0;
            })
        };
        match moved {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                panic!(
                    "a slow client: {error}, after {} bytes sent, {} received",
                    self.sent,
                    self.received.len()
                )
            }
            _ => {}
        }
    }

    /// The body of a response with status 200.
    fn answer(&self) -> Vec<u8> {
        let end = self
            .received
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no response: {} bytes", self.received.len()));
        let head = String::from_utf8_lossy(&self.received[..end]);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        self.received[end + 4..].to_vec()
    }
}

/// Raises the limit of descriptors for the sockets of the clients, and of the server, which inherits the limit.
fn allow_descriptors(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    let current = getrlimit(Resource::Nofile).current;
    assert!(
        current.is_none_or(|current| current >= wanted),
        "{wanted} descriptors are needed: raise the limit (ulimit -n)"
    );
}
