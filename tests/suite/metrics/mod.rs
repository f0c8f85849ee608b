//! What is counted, who answers for it, and that it stays right whatever dies.

/// `SetHandler wsgi-metrics`: formats, methods, access.
mod endpoint;
/// Waiting for the GIL.
mod gil;
/// Memory that somebody has scribbled over.
mod hostile;
/// Children killed under load, with a Prometheus watching.
mod kills;
/// The process that answers when nobody else does.
mod listener;
/// Clients with a count of their own.
mod load;
/// Each family against known traffic.
mod numbers;
/// HTTP/2, forks, threads, one process, too many children.
mod shapes;
/// `wsgi-status`, `server-status`, wsgictl.
mod status;
