//! The clients: one of HTTP/1, which can send and see any bytes, and one of just enough HTTP/2.

pub(crate) mod connection;
pub(crate) mod http2;
pub(crate) mod request;
pub(crate) mod response;
