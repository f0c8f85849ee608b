//! The module above and below the filters of httpd and of its distribution's modules: what they give is what the
//! application is told, what they make of its response is what the client gets, and no child dies of it.

/// Chunks, ranges and refused bodies.
mod bodies;
/// What is sent through a filter, and what must come out.
mod checks;
/// Every filter with every kind of request, and with clients that leave.
mod matrix;
/// The filters, alone and together.
mod rows;
/// The filters of mod_ssl.
mod tls;
