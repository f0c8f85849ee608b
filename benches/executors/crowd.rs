//! Many keep-alive connections in a closed loop, all on one thread. If each connection had its own thread, these
//! threads would compete with the server for the CPUs, and they would distort the comparison more if the server has
//! more threads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::executors::workload::{Ask, kind};

/// The connections, each with a running request.
pub(crate) struct Crowd<'a> {
    asks: &'a [Ask],
    clients: Vec<Client>,
    epoll: OwnedFd,
    /// Events of epoll that have not been handled yet, in order
    ready: std::vec::IntoIter<Event>,
    /// Requests sent so far
    sent: u64,
    /// Clients that have had no response yet
    silent: usize,
    /// Connections that the server closed instead of responding
    pub(crate) closed: usize,
    address: SocketAddr,
}

struct Client {
    stream: TcpStream,
    kind: usize,
    since: Instant,
    answered: bool,
    buffer: Vec<u8>,
    filled: usize,
    /// Connections closed since the last response of this client
    closed: usize,
}

/// A correct response.
pub(crate) struct Answer {
    pub(crate) at: Instant,
    pub(crate) latency: Duration,
}

impl<'a> Crowd<'a> {
    /// Opens the connections and sends the first request of each.
    pub(crate) fn begin(address: SocketAddr, connections: usize, asks: &'a [Ask]) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let clients = (0..connections)
            .map(|number| {
                Ok(Client {
                    stream: connect(address, &epoll, number)?,
                    kind: 0,
                    since: Instant::now(),
                    answered: false,
                    buffer: vec![0; 2048],
                    filled: 0,
                    closed: 0,
                })
            })
            .collect::<Result<_>>()?;
        let mut crowd = Self {
            asks,
            clients,
            epoll,
            ready: Vec::new().into_iter(),
            sent: 0,
            silent: connections,
            closed: 0,
            address,
        };
        for number in 0..connections {
            crowd.ask(number, Instant::now())?;
        }
        Ok(crowd)
    }

    /// Whether a client has had no response yet.
    pub(crate) fn is_warming(&self) -> bool {
        self.silent > 0
    }

    /// Waits for the next response, sends the next request of that client and returns the response; `None` if there is
    /// no response before the deadline.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<Option<Answer>> {
        loop {
            while let Some(event) = self.ready.next() {
                let number = usize::try_from(event.data.u64())?;
                if let Some(answer) = self.receive(number)? {
                    self.ask(number, answer.at)?;
                    return Ok(Some(answer));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut ready = Vec::with_capacity(self.clients.len());
            match epoll::wait(
                &self.epoll,
                spare_capacity(&mut ready),
                Some(&Timespec::try_from(left)?),
            ) {
                Ok(0) => return Ok(None),
                Ok(_) => self.ready = ready.into_iter(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends the next request of the client with this number.
    fn ask(&mut self, number: usize, now: Instant) -> Result<()> {
        let client = &mut self.clients[number];
        client.kind = kind(self.sent, self.asks.len());
        client.since = now;
        client.closed = 0;
        self.sent += 1;
        self.send(number)
    }

    /// Sends the request of the client with this number in one write: a connection without unread bytes accepts far
    /// more.
    fn send(&mut self, number: usize) -> Result<()> {
        let client = &mut self.clients[number];
        let request = self.asks[client.kind].request.as_bytes();
        match client.stream.write_all(request) {
            Err(error) if is_closed(&error) => self.again(number),
            sent => sent.context("cannot send a request"),
        }
    }

    /// Sends the same request on a new connection, as browsers do: while all of its threads are busy, the event MPM
    /// closes idle connections, perhaps before it has read a request that has arrived.
    fn again(&mut self, number: usize) -> Result<()> {
        let client = &mut self.clients[number];
        client.closed += 1;
        self.closed += 1;
        ensure!(
            client.filled == 0 && client.closed <= AGAIN,
            "the server closed {} connections of one request; of the last one came {:?}",
            client.closed,
            String::from_utf8_lossy(&client.buffer[..client.filled])
        );
        // Closing the old connection removes it from epoll.
        client.stream = connect(self.address, &self.epoll, number)?;
        self.send(number)
    }

    /// Returns the response if it is complete; an incorrect one is an error.
    fn receive(&mut self, number: usize) -> Result<Option<Answer>> {
        let client = &mut self.clients[number];
        let read = match client.stream.read(&mut client.buffer[client.filled..]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if is_closed(&error) => 0,
            Err(error) => return Err(error).context("no answer"),
        };
        if read == 0 {
            self.again(number)?;
            return Ok(None);
        }
        let at = Instant::now();
        client.filled += read;
        let seen = &client.buffer[..client.filled];
        let ask = &self.asks[client.kind];
        if !is_answer(seen, ask.body.as_bytes())? {
            ensure!(
                client.filled < client.buffer.len(),
                "too long: {:?}",
                String::from_utf8_lossy(seen)
            );
            return Ok(None);
        }
        client.filled = 0;
        if !client.answered {
            client.answered = true;
            self.silent -= 1;
        }
        let latency = at - client.since;
        ensure!(
            latency >= ask.at_least,
            "an answer after {latency:?}, but the application sleeps for {:?}",
            ask.at_least
        );
        Ok(Some(Answer { at, latency }))
    }
}

fn connect(address: SocketAddr, epoll: &OwnedFd, number: usize) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let token = EventData::new_u64(number as u64);
    epoll::add(epoll, &stream, token, EventFlags::IN)?;
    Ok(stream)
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Whether `seen` is the complete and correct response; an incorrect one is an error as soon as a byte differs.
fn is_answer(seen: &[u8], body: &[u8]) -> Result<bool> {
    let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, rest) = seen.split_at(end + 4);
    let right =
        head.starts_with(b"HTTP/1.1 200 ") && body.starts_with(&rest[..rest.len().min(body.len())]);
    if !right || rest.len() > body.len() {
        bail!(
            "not the answer of spin.wsgi:\n{}",
            String::from_utf8_lossy(seen)
        );
    }
    Ok(rest.len() == body.len())
}

/// The most connections that the server may close for one request.
const AGAIN: usize = 100;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    fn ask(body: &str, at_least: Duration) -> [Ask; 1] {
        [Ask {
            request: "GET / HTTP/1.1\r\n\r\n".into(),
            body: body.into(),
            at_least,
        }]
    }

    /// Starts a server that accepts two connections and answers each request with `answer`, in two parts.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || {
                    let mut buffer = [0; 256];
                    while let Ok(1..) = stream.read(&mut buffer) {
                        for part in [&answer[..20], &answer[20..]] {
                            if stream.write_all(part.as_bytes()).is_err() {
                                return;
                            }
                            thread::sleep(Duration::from_millis(2));
                        }
                    }
                });
            }
        });
        address
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn every_connection_goes_on_after_its_answer() {
        let asks = ask("42\n", Duration::ZERO);
        let address = server("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n");
        let mut crowd = Crowd::begin(address, 2, &asks).expect("connections");
        assert!(crowd.is_warming());
        for _ in 0..10 {
            let answer = crowd.next(soon()).expect("right answers").expect("in time");
            assert!(answer.latency >= Duration::from_millis(2));
        }
        assert!(!crowd.is_warming());
        assert_eq!(crowd.sent, 12);
    }

    #[test]
    fn a_wrong_answer_is_an_error_and_none_is_none() {
        let asks = ask("42\n", Duration::ZERO);
        for wrong in [
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\n42\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n43\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n42\n\n",
        ] {
            let mut crowd = Crowd::begin(server(wrong), 2, &asks).expect("connections");
            assert!(crowd.next(soon()).is_err(), "{wrong}");
        }
        let mut crowd = Crowd::begin(
            server("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n"),
            2,
            &asks,
        )
        .expect("connections");
        assert!(crowd.next(Instant::now()).expect("no error").is_none());
    }

    #[test]
    fn an_answer_before_the_end_of_the_sleep_is_an_error() {
        let asks = ask("42\n", Duration::from_secs(9));
        let address = server("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n");
        let mut crowd = Crowd::begin(address, 2, &asks).expect("connections");
        assert!(crowd.next(soon()).is_err());
    }

    /// Starts a server that answers `times` requests on each connection and then closes it.
    fn leaving(times: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || {
                    for _ in 0..times {
                        if !matches!(stream.read(&mut [0; 256]), Ok(1..)) {
                            return;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n42\n";
                        stream.write_all(answer).expect("a reader");
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_request_on_a_closed_connection_is_sent_again_on_a_new_one() {
        let asks = ask("42\n", Duration::ZERO);
        let mut crowd = Crowd::begin(leaving(3), 2, &asks).expect("connections");
        for _ in 0..30 {
            crowd.next(soon()).expect("right answers").expect("in time");
        }
        // Ten connections are used up, and two more may be open after the last request of each client.
        assert!((8..=10).contains(&crowd.closed), "{}", crowd.closed);
        assert_eq!(crowd.sent, 32);
    }

    #[test]
    fn a_server_that_always_closes_is_an_error() {
        let asks = ask("42\n", Duration::ZERO);
        // The error may occur at once, or while the response is awaited.
        let failure = Crowd::begin(leaving(0), 2, &asks)
            .and_then(|mut crowd| crowd.next(soon()).map(|_| ()))
            .expect_err("no answers");
        assert!(failure.to_string().contains("closed 101"), "{failure:#}");
    }
}
