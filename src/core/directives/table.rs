//! All rows, from one file for each topic.

use super::directive::Directive;
use super::{auth, daemon, interpreters, mapping, pools, python, requests, telemetry};

/// Every directive of mod_wsgi 6, and those that only mod_wsgi_rs has, by topic.
pub static DIRECTIVES: &[Directive] = &TABLE;

/// The topics with their rows.
pub const TOPICS: &[(&str, &[Directive])] = &[
    ("Scripts and URLs", mapping::DIRECTIVES),
    ("Requests and responses", requests::DIRECTIVES),
    ("Python", python::DIRECTIVES),
    ("Authentication", auth::DIRECTIVES),
    ("Daemon processes", daemon::DIRECTIVES),
    ("Metrics", telemetry::DIRECTIVES),
    (
        "Interpreters, new code and children",
        interpreters::DIRECTIVES,
    ),
    ("Threads and limits of time", pools::DIRECTIVES),
];

static TABLE: [Directive; COUNT] = {
    let mut table = [TOPICS[0].1[0]; COUNT];
    let (mut topic, mut row, mut at) = (0, 0, 0);
    while topic < TOPICS.len() {
        while row < TOPICS[topic].1.len() {
            table[at] = TOPICS[topic].1[row];
            row += 1;
            at += 1;
        }
        topic += 1;
        row = 0;
    }
    table
};

const COUNT: usize = {
    let (mut topic, mut count) = (0, 0);
    while topic < TOPICS.len() {
        count += TOPICS[topic].1.len();
        topic += 1;
    }
    count
};

/// Returns the directive `name`, in any case, as httpd looks up names.
pub fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES
        .iter()
        .find(|directive| directive.name.eq_ignore_ascii_case(name))
}
