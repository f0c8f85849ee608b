//! What stands in a line of the log beside its message.

// Numbers of connections and requests in the log.
pub mod log_id;
// Streams of text as log records.
pub mod log_lines;
