//! Splits a stream of text (`wsgi.errors`, `sys.stderr`) into log records: one per line, none longer than
//! [`MAX_RECORD`]. No text is lost.

/// Most bytes of one record: httpd cuts a line of its log at 8192 bytes, including its prefix.
pub const MAX_RECORD: usize = 8000;

/// The part of a line whose end has not been written yet; at most [`MAX_RECORD`] bytes.
#[derive(Debug, Default)]
pub struct LineBuffer {
    partial: Vec<u8>,
}

impl LineBuffer {
    /// Makes an empty buffer; allocates nothing until a line is left open.
    pub const fn new() -> LineBuffer {
        LineBuffer {
            partial: Vec::new(),
        }
    }

    /// Takes written text and emits the complete records, without their newlines. A NUL, at which C would end the
    /// record, becomes `\0`.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        let open = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.partial.is_empty() && line.len() <= MAX_RECORD && !line.contains(&0) {
                emit(line);
            } else {
                self.append(line, &mut emit);
                emit(&self.partial);
                self.partial.clear();
            }
        }
        self.append(open, &mut emit);
    }

    /// Emits the open line, if there is one.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            emit(&self.partial);
            self.partial.clear();
        }
    }

    /// Adds to the open line. If it gets too long, its first parts become separate records.
    fn append(&mut self, text: &[u8], emit: &mut impl FnMut(&[u8])) {
        for byte in text {
            let shown = if *byte == 0 {
                &b"\\0"[..]
            } else {
                std::slice::from_ref(byte)
            };
            if self.partial.len() + shown.len() > MAX_RECORD {
                emit(&self.partial);
                self.partial.clear();
            }
            self.partial.extend_from_slice(shown);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn records(writes: &[&[u8]], flush: bool) -> Vec<String> {
        let mut buffer = LineBuffer::new();
        let mut records = Vec::new();
        let mut emit = |record: &[u8]| records.push(String::from_utf8(record.to_vec()).unwrap());
        for write in writes {
            buffer.push(write, &mut emit);
        }
        if flush {
            buffer.flush(&mut emit);
        }
        records
    }

    #[test]
    fn lines_become_records() {
        for (writes, expected) in [
            (vec![], vec![]),
            (vec![""], vec![]),
            (vec!["a\nb\n"], vec!["a", "b"]),
            (vec!["a", "b\n"], vec!["ab"]),
            (vec!["a\n", "", "b", "", "c\nd"], vec!["a", "bc"]),
            (vec!["\n\n"], vec!["", ""]),
            (vec!["a\0b\n"], vec!["a\\0b"]),
            (vec!["open"], vec![]),
        ] {
            let writes: Vec<&[u8]> = writes.iter().map(|write| write.as_bytes()).collect();
            assert_eq!(records(&writes, false), expected);
        }
    }

    #[test]
    fn flush_emits_the_open_line_once() {
        let mut buffer = LineBuffer::new();
        let mut count = 0;
        buffer.push(b"open", |_| count += 1);
        buffer.flush(|record| assert_eq!(record, b"open"));
        buffer.flush(|_| count += 1);
        buffer.push(b"\n", |record| assert_eq!(record, b""));
        assert_eq!(count, 0);
    }

    #[test]
    fn an_exact_fit_is_one_record() {
        let line = "x".repeat(MAX_RECORD);
        assert_eq!(records(&[line.as_bytes(), b"\n"], true), vec![line.clone()]);
        assert_eq!(
            records(&[line.as_bytes(), b"y\n"], true),
            vec![line, "y".into()]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            writes in proptest::collection::vec("[ab\n\0]{0,40}|[a]{7990,16010}", 0..5)
        ) {
            let slices: Vec<&[u8]> = writes.iter().map(|write| write.as_bytes()).collect();
            let records = records(&slices, true);
            prop_assert!(records.iter().all(|record| record.len() <= MAX_RECORD));
            let written = writes.concat().replace('\0', "\\0").replace('\n', "");
            prop_assert_eq!(records.concat(), written);
        }
    }
}
