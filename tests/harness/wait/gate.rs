//! A gate at which applications wait until the test releases them (`tests/apps/gate.wsgi`). Each application opens its
//! own connection to the gate, and sends a name.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::wait::eventually::{PATIENCE, eventually, eventually_within};

/// Listens for the connections of applications that wait.
pub struct Gate(TcpListener);

impl Gate {
    /// Returns a new gate.
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// Returns the directive that tells applications the address of the gate.
    pub fn directive(&self) -> String {
        format!("SetEnv test.gate {}", self.0.local_addr().unwrap().port())
    }

    /// Waits for the next visitor.
    #[track_caller]
    pub fn next(&self) -> Visitor {
        eventually("an application comes to the gate", || self.accept())
    }

    /// Returns the next visitor, if one comes within this time.
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

/// An application that waits at the gate. It goes on when it is released, or when this value is dropped.
pub struct Visitor {
    name: String,
    stream: TcpStream,
}

impl Visitor {
    /// Returns the name that it sent.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets the application go on.
    pub fn release(mut self) {
        self.stream.write_all(b"x").unwrap();
    }
}
