//! Clients: of HTTP/1, which may send and see anything, and just enough HTTP/2.

pub(crate) mod connection;
pub(crate) mod http2;
pub(crate) mod request;
pub(crate) mod response;
