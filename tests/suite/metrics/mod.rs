//! The metrics, the processes that show them, and that they stay right whatever process dies.

/// `SetHandler wsgi-metrics`: formats, methods, access.
mod endpoint;
/// Waits for the GIL.
mod gil;
/// Memory that was overwritten.
mod hostile;
/// Children killed under load, with a Prometheus watching.
mod kills;
/// The process that answers when no child does.
mod listener;
/// Clients that count the responses themselves.
mod load;
/// Each family against known traffic.
mod numbers;
/// HTTP/2, forks, threads, one process, too many children.
mod shapes;
/// `wsgi-status`, `server-status`, wsgictl.
mod status;

use harness::{Mpm, Server};

/// Starts a server with metrics and the measured application.
fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .metrics()
        .app("/m", "measured.wsgi")
        .conf("SetEnv test.gate ${ROOT}/gate")
        .start()
}
