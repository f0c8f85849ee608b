//! What the fuzzer's bytes mean, and the connection on which they are sent.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use wsgi_wire::Connection;

/// Returns a connection of the side under test, and the other end of it.
pub(crate) fn pair() -> (Connection, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (tested, other) = pair.expect("sockets");
    let connection = Connection::new(tested, Duration::from_millis(200), || false);
    (connection.expect("a connection"), other)
}

/// Turns the fuzzer's bytes into what is sent. The first byte decides: frames whose lengths are right, so that more than
/// the first checks is reached, or the bytes as they are.
pub(crate) fn to_send(data: &[u8]) -> Vec<u8> {
    let Some((&mode, mut rest)) = data.split_first() else {
        return Vec::new();
    };
    if mode & 1 == 0 {
        return rest.to_vec();
    }
    let mut bytes = Vec::new();
    while let [kind, detail, low, high, behind @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (body, next) = behind.split_at(length);
        let announced = u32::try_from(length).unwrap_or(0);
        bytes.extend_from_slice(&announced.to_le_bytes());
        bytes.extend_from_slice(&[kind % 19, *detail]);
        bytes.extend_from_slice(body);
        rest = next;
    }
    bytes
}
