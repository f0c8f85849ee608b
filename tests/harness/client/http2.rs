//! Just enough HTTP/2 to run several requests at once on one connection, each on its own stream.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends a `GET` for each path at once, and reads until all streams end. Returns for each path whether the status
/// was 200.
pub fn http2_get_all(address: SocketAddr, paths: &[String]) -> Vec<bool> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    let ids: Vec<u32> = (0..).map(|n| 2 * n + 1).take(paths.len()).collect();
    for (id, path) in ids.iter().zip(paths) {
        let head = headers(path, &address.to_string());
        sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, *id, &head));
    }
    stream.write_all(&sent).unwrap();
    let mut good = BTreeMap::new();
    let mut ended = 0;
    while ended < paths.len() {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match kind {
            // `:status: 200` is entry 8 of HPACK's static table; an update of the table size may come before it.
            HEADERS => {
                let first = payload
                    .iter()
                    .find(|byte| **byte & 0b1110_0000 != 0b0010_0000);
                good.insert(id, first == Some(&0x88));
            }
            SETTINGS if flags & ACK == 0 => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[])).unwrap();
            }
            RESET | GO_AWAY => panic!("frame {kind} on stream {id}: {payload:?}"),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            ended += 1;
        }
    }
    ids.iter().map(|id| good.get(id) == Some(&true)).collect()
}

/// The response on one stream of HTTP/2.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Http2Response {
    /// The status, if HPACK's static table has an entry for it; 0 for any other status, and if there was none.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the stream ended, rather than being reset.
    pub is_complete: bool,
}

/// Sends one request on a new connection: the head, after `pause` the first piece of the body, and so on. All bytes
/// together must not be more than 65,535, and a piece not more than 16,384.
pub fn http2_exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    pieces: &[&[u8]],
    pause: Duration,
) -> Http2Response {
    let mut stream = TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).unwrap();
    stream.set_nodelay(true).unwrap();
    // A large window for the response, for each stream and for the connection.
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    sent.extend(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]));
    let authority = address.to_string();
    let mut block = Vec::new();
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", &authority),
        (":path", path),
    ];
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend(text.as_bytes());
        }
    }
    let end = if pieces.is_empty() { END_STREAM } else { 0 };
    sent.extend(frame(HEADERS, end | END_HEADERS, 1, &block));
    stream.write_all(&sent).unwrap();
    for (at, piece) in pieces.iter().enumerate() {
        std::thread::sleep(pause);
        let end = if at + 1 == pieces.len() {
            END_STREAM
        } else {
            0
        };
        stream.write_all(&frame(DATA, end, 1, piece)).unwrap();
    }
    let mut response = Http2Response::default();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match kind {
            HEADERS if response.status == 0 => {
                let mut bytes = payload.iter();
                let first = bytes.find(|byte| **byte & 0b1110_0000 != 0b0010_0000);
                let known = [200, 204, 206, 304, 400, 404, 500];
                let at = first.and_then(|byte| byte.checked_sub(0x88));
                let status = at.and_then(|at| known.get(usize::from(at)));
                response.status = status.copied().unwrap_or(0);
            }
            DATA => response.body.extend(payload),
            SETTINGS if flags & ACK == 0 => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[])).unwrap();
            }
            RESET | GO_AWAY => return response,
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            response.is_complete = true;
            return response;
        }
    }
}

/// Sends a `GET`, and cancels its stream after `wait` has returned. The connection stays open while the result lives.
pub fn http2_cancel(address: SocketAddr, path: &str, wait: impl FnOnce()) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = headers(path, &address.to_string());
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
    stream.write_all(&sent).unwrap();
    wait();
    // The error code CANCEL.
    stream
        .write_all(&frame(RESET, 0, 1, &8_u32.to_be_bytes()))
        .unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Makes a header block: fields of HPACK's static table, and literals without Huffman coding.
fn headers(path: &str, authority: &str) -> Vec<u8> {
    // `:method: GET` and `:scheme: http`.
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(4, path), (1, authority)] {
        block.push(name);
        block.push(u8::try_from(value.len()).expect("it is short"));
        block.extend(value.as_bytes());
    }
    block
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
