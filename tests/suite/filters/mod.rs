//! The module together with the filters of httpd and of its distribution's modules: the application gets what input
//! filters produce, the client gets what output filters make of the response, and no child dies.

/// Chunks, ranges and refused bodies.
mod bodies;
/// Requests through a filter, and the expected results.
mod checks;
/// Every filter with every kind of request, and with clients that leave.
mod matrix;
/// The filters, alone and together.
mod rows;
/// The filters of mod_ssl.
mod tls;
