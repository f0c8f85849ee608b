//! The error log, as records, and which of its records a test has announced.

use std::fs;
use std::path::Path;

use regex::Regex;

/// The `ErrorLogFormat` of every test server, which is easy to parse.
pub(crate) const FORMAT: &str = r"[%{cu}t] [%-m:%l] [pid %P] [client %-a] [request %-L] %M";

/// One line of the error log.
#[derive(Clone, Debug)]
pub struct Record {
    /// The httpd module that wrote the record; `wsgi` for the module under test.
    pub module: String,
    /// httpd's name of the level: `error`, `warn`, `notice`, `info` …
    pub level: String,
    /// The process that wrote the record.
    pub pid: i32,
    /// The client; `-` if the record belongs to no request.
    pub client: String,
    /// The request's log id; `-` if the record belongs to no request.
    pub request: String,
    /// The text of the record.
    pub message: String,
}

impl Record {
    /// Whether this is a warning or worse, or a report that a child died by a signal, which httpd logs as a notice.
    pub fn is_complaint(&self) -> bool {
        let bad = matches!(
            self.level.as_str(),
            "emerg" | "alert" | "crit" | "error" | "warn"
        );
        (bad && !NOISE.iter().any(|number| self.message.starts_with(number)))
            || self.message.contains(" exit signal ")
    }

    /// Whether this is a line of a traceback before its last line. A test that announces the last line, which names the
    /// exception, has announced these too.
    fn is_inside_traceback(&self) -> bool {
        // Records of a request may begin with the name of the script.
        let prefixed = self
            .message
            .strip_prefix("[script ")
            .and_then(|rest| rest.split_once(']'));
        let text = prefixed.map_or(self.message.as_str(), |(_, rest)| {
            rest.strip_prefix(' ').unwrap_or(rest)
        });
        text.is_empty()
            || text.starts_with("  ")
            || text.starts_with("Traceback (most recent call last)")
            || text.starts_with("During handling of the above exception")
            || text.starts_with("The above exception was the direct cause")
    }
}

/// Returns all records of the log file. A line of another form (a crash of the C library, say) becomes an `error` of no
/// module.
pub(crate) fn read(path: &Path) -> Vec<Record> {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(parse)
        .collect()
}

/// Returns the last lines of a file, for the output of a failed test.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Returns the complaints that match no pattern.
pub(crate) fn unannounced(records: &[Record], announced: &[Regex]) -> Vec<Record> {
    records
        .iter()
        .filter(|record| record.is_complaint() && !record.is_inside_traceback())
        .filter(|record| {
            !announced
                .iter()
                .any(|pattern| pattern.is_match(&record.message))
        })
        .cloned()
        .collect()
}

fn parse(line: &str) -> Option<Record> {
    if line.trim().is_empty() {
        return None;
    }
    Some(parse_record(line).unwrap_or_else(|| Record {
        module: "-".into(),
        level: "error".into(),
        pid: 0,
        client: "-".into(),
        request: "-".into(),
        message: line.into(),
    }))
}

fn parse_record(line: &str) -> Option<Record> {
    let rest = line.strip_prefix('[')?;
    let (_time, rest) = rest.split_once("] [")?;
    let (source, rest) = rest.split_once("] [pid ")?;
    let (pid, rest) = rest.split_once("] [client ")?;
    let (client, rest) = rest.split_once("] [request ")?;
    let (request, message) = rest
        .split_once("] ")
        .or_else(|| Some((rest.strip_suffix(']')?, "")))?;
    let (module, level) = source.split_once(':')?;
    // The module itself names the client if another thread has the request.
    let beside = message.strip_prefix("[client ").filter(|_| client == "-");
    let (client, message) = beside
        .and_then(|rest| rest.split_once("] "))
        .unwrap_or((client, message));
    Some(Record {
        module: module.into(),
        level: level.into(),
        pid: pid.parse().ok()?,
        client: client.into(),
        request: request.into(),
        message: message.into(),
    })
}

/// Records of httpd that are not complaints here: all workers are busy, since the pools of the tests are small, or an
/// event child ended with a lingering connection.
const NOISE: [&str; 7] = [
    "AH00161:", "AH00286:", "AH00287:", "AH00484:", "AH10159:", "AH03490:", "AH03092:",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let record =
            parse("[Mon 1 2026] [wsgi:error] [pid 12] [client 127.0.0.1:5] [request Ab/+] [script x] boom").unwrap();
        assert_eq!(
            (record.module.as_str(), record.level.as_str(), record.pid),
            ("wsgi", "error", 12)
        );
        assert_eq!(record.message, "[script x] boom");
        assert!(record.is_complaint());
    }

    #[test]
    fn a_line_of_another_shape_is_a_complaint() {
        assert!(parse("free(): invalid pointer").unwrap().is_complaint());
    }

    #[test]
    fn the_last_line_of_a_traceback_needs_an_announcement() {
        let records: Vec<Record> = [
            "Traceback (most recent call last):",
            "  File \"x\"",
            "ValueError: boom",
        ]
        .iter()
        .filter_map(|text| {
            parse(&format!(
                "[t] [wsgi:error] [pid 1] [client -] [request -] {text}"
            ))
        })
        .collect();
        assert_eq!(unannounced(&records, &[]).len(), 1);
        assert!(unannounced(&records, &[Regex::new("boom").unwrap()]).is_empty());
    }
}
