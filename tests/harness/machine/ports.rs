//! Ports of the loopback address for servers.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The ports below Linux's default range of ephemeral ports: the kernel gives none of them to a client, or to a
/// listener that asks for port 0.
const FIRST: u16 = 10_000;
const END: u16 = 32_768;

/// Returns a port on which nothing listens, and that this process has not returned before.
///
/// Processes of a stopped httpd may still connect to its port, and a server that restarts closes its port for a moment.
/// So a port is not given twice before all others have been given.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test programs that run side by side begin at different places. The factor is a prime number.
    let begin =
        || AtomicU16::new((process::id().wrapping_mul(7919) % u32::from(END - FIRST)) as u16);
    let next = NEXT.get_or_init(begin);
    (0..END - FIRST)
        .map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % (END - FIRST))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of many ports is free")
}
