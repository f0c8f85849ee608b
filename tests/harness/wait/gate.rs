//! A gate at which applications wait until the test lets them go on (`tests/apps/gate.wsgi`): each comes by a connection of
//! its own, and says its name.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::wait::eventually::{PATIENCE, eventually, eventually_within};

/// Listens for applications that come to wait.
pub struct Gate(TcpListener);

impl Gate {
    /// A new gate.
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// The directive that tells applications where it is.
    pub fn directive(&self) -> String {
        format!("SetEnv test.gate {}", self.0.local_addr().unwrap().port())
    }

    /// The next visitor.
    #[track_caller]
    pub fn next(&self) -> Visitor {
        eventually("an application comes to the gate", || self.accept())
    }

    /// The next visitor, if one comes within this time.
    pub fn next_within(&self, time: Duration) -> Option<Visitor> {
        eventually_within(time, || self.accept())
    }

    fn accept(&self) -> Option<Visitor> {
        let (stream, _) = self.0.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut name = String::new();
        BufReader::new(&stream).read_line(&mut name).unwrap();
        let name = name.trim_end().to_owned();
        Some(Visitor { name, stream })
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// An application that waits. It goes on when it is released, or when this is dropped.
pub struct Visitor {
    name: String,
    stream: TcpStream,
}

impl Visitor {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it go on.
    pub fn release(mut self) {
        self.stream.write_all(b"x").unwrap();
    }
}
