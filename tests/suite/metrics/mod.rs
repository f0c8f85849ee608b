//! What is counted, which process shows it, and that it stays right whatever dies.

/// `SetHandler wsgi-metrics`: formats, methods, access.
mod endpoint;
/// Waiting for the GIL.
mod gil;
/// Memory that was overwritten.
mod hostile;
/// Children killed under load, with a Prometheus watching.
mod kills;
/// The process that answers when no child does.
mod listener;
/// Clients with a count of their own.
mod load;
/// Each family against known traffic.
mod numbers;
/// HTTP/2, forks, threads, one process, too many children.
mod shapes;
/// `wsgi-status`, `server-status`, wsgictl.
mod status;

use harness::{Mpm, Server};

/// A server with metrics and the application that is measured.
fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .metrics()
        .app("/m", "measured.wsgi")
        .conf("SetEnv test.gate ${ROOT}/gate")
        .start()
}
