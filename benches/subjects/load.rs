//! The load: blocking keep-alive connections, each on its own thread, which share a fixed number of requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::subjects::interrupt;

/// The times that the clients measured.
pub(crate) struct Load {
    /// From the common start until the last response
    pub(crate) wall: Duration,
    /// The latency of every request, sorted
    pub(crate) latencies: Vec<Duration>,
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Long enough for the start of Python under callgrind.
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self {
            stream,
            buffer: vec![0; 4096],
        })
    }

    /// Sends one request; the response must be the application's.
    pub(crate) fn get(&mut self) -> Result<()> {
        self.stream.write_all(REQUEST.as_bytes())?;
        let mut filled = 0;
        loop {
            let read = self
                .stream
                .read(&mut self.buffer[filled..])
                .context("no answer")?;
            filled += read;
            let seen = &self.buffer[..filled];
            if let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                let (head, body) = seen.split_at(end + 4);
                if body.len() >= BODY.len() || read == 0 || !head.starts_with(b"HTTP/1.1 200 ") {
                    let right =
                        head.starts_with(b"HTTP/1.1 200 ") && has_length(head) && body == BODY;
                    ensure!(
                        right,
                        "not the answer of app.wsgi:\n{}",
                        String::from_utf8_lossy(seen)
                    );
                    return Ok(());
                }
            }
            ensure!(
                read != 0 && filled < self.buffer.len(),
                "cut short: {:?}",
                String::from_utf8_lossy(seen)
            );
        }
    }

    pub(crate) fn get_many(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.get())
    }
}

/// Waits until a request has the right response. Before that, a server may answer 503 because its processes still
/// start.
pub(crate) fn wait_for_answer(address: SocketAddr, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = Connection::open(address).and_then(|mut connection| connection.get());
        if answer.is_ok() || Instant::now() >= deadline {
            return answer;
        }
        interrupt::check()?;
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sends `requests` over `connections`, after `warm` requests on each; calls `started` when all connections are warm
/// and idle.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    warm: usize,
    requests: usize,
    started: impl FnOnce() -> Result<()>,
) -> Result<Load> {
    let begun = AtomicUsize::new(0);
    let ready = Barrier::new(connections + 1);
    let go = Barrier::new(connections + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let warmed = Connection::open(address).and_then(|mut connection| {
                        connection.get_many(warm)?;
                        Ok(connection)
                    });
                    // Both barriers are passed even after a failure, otherwise the other threads would wait forever.
                    ready.wait();
                    go.wait();
                    timed(&mut warmed?, &begun, requests)
                })
            })
            .collect();
        ready.wait();
        let started = started();
        let begin = Instant::now();
        go.wait();
        let mut latencies = Vec::with_capacity(requests);
        for client in clients {
            latencies.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        let wall = begin.elapsed();
        started?;
        latencies.sort_unstable();
        Ok(Load { wall, latencies })
    })
}

/// Runs until `requests` have begun on all connections together. If each connection had a fixed share, the first
/// connections to finish would be idle during the rest.
fn timed(
    connection: &mut Connection,
    begun: &AtomicUsize,
    requests: usize,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(requests);
    while begun.fetch_add(1, Ordering::Relaxed) < requests {
        let begin = Instant::now();
        connection.get()?;
        latencies.push(begin.elapsed());
    }
    Ok(latencies)
}

/// Returns the request of a browser for `target`, with the same headers as the other requests.
pub(crate) fn request(target: &str) -> String {
    let headers = REQUEST.split_once("\r\n").map_or("", |(_, rest)| rest);
    format!("GET {target} HTTP/1.1\r\n{headers}")
}

fn has_length(head: &[u8]) -> bool {
    head.windows(LENGTH.len())
        .any(|window| window.eq_ignore_ascii_case(LENGTH))
}

/// A browser's request for a page of a site: eight headers, 540 bytes.
const REQUEST: &str = "GET /articles/42?page=2&order=newest HTTP/1.1\r\n\
    Host: localhost\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Referer: http://localhost/articles/\r\n\
    Cookie: sessionid=2kq8w0t5m1n7v4b6c3x9z; csrftoken=Jd93kLq7TzPm0\r\n\
    Cache-Control: max-age=0\r\n\r\n";
const BODY: &[u8] = b"Hello world\n";
const LENGTH: &[u8] = b"\r\ncontent-length: 12\r\n";
