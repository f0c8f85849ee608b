//! Log ids, and the split of text streams into log records.

// Numbers of connections and requests in the log.
pub mod log_id;
// Streams of text as log records.
pub mod log_lines;
