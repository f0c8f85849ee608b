//! A parser that accepts exactly what both formats allow, and other helpers of the tests.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use wsgi_telemetry::{Format, Geometry, Owner, Segment, memory, render};

/// Labels in the order of the page.
pub(crate) type Labels = Vec<(String, String)>;

/// A family as it was parsed.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    pub(crate) text: String,
}

/// Returns a segment for one test.
pub(crate) fn segment(geometry: Geometry) -> Segment {
    let cells = memory::anonymous(geometry.words()).unwrap();
    let segment = Segment::create(cells, geometry, std::process::id()).unwrap();
    segment.begin_generation(0);
    segment
}

pub(crate) fn owner() -> Owner {
    Owner::of_this_process(0)
}

pub(crate) fn page(segment: &Segment, format: Format) -> String {
    let mut page = String::new();
    render(&segment.snapshot(), format, &mut page);
    page
}

/// Parses a page, and insists on every rule of the format.
pub(crate) fn parse(page: &str, format: Format) -> Vec<Parsed> {
    let body = match format {
        Format::Text => page,
        Format::OpenMetrics => page.strip_suffix("# EOF\n").expect("no end"),
    };
    assert!(body.is_empty() || body.ends_with('\n'));
    let mut families: Vec<Parsed> = Vec::new();
    for line in body.split_terminator('\n') {
        match line.strip_prefix("# ") {
            Some(comment) => head(comment, format, &mut families),
            None => {
                let family = families.last_mut().expect("a sample before all families");
                family.samples.push(sample(line));
            }
        }
    }
    let (mut names, mut series, mut of_samples) =
        (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for family in &families {
        assert!(names.insert(&family.name), "{} is there twice", family.name);
        assert!(!family.kind.is_empty(), "{} has no type", family.name);
        assert!(!family.help.is_empty(), "{} has no help", family.name);
        assert!(!family.samples.is_empty(), "{} is empty", family.name);
        for sample in &family.samples {
            check_sample(family, sample, format);
            let mut labels = sample.labels.clone();
            // A label with an empty value counts as no label.
            labels.retain(|(_, value)| !value.is_empty());
            labels.sort();
            assert!(series.insert((&sample.name, labels)), "twice: {sample:?}");
            let first = of_samples.entry(&sample.name).or_insert(&family.name);
            assert_eq!(*first, &family.name, "{} is in two families", sample.name);
        }
        if family.kind == "histogram" {
            check_histogram(family);
        }
    }
    families
}

fn head(comment: &str, format: Format, families: &mut Vec<Parsed>) {
    let (word, rest) = comment.split_once(' ').unwrap();
    let (name, text) = rest.split_once(' ').unwrap();
    assert!(is_name(name), "{name}");
    // A head stands right before its samples, and only once.
    if families.last().is_none_or(|last| last.name != name) {
        families.push(Parsed {
            name: name.to_owned(),
            kind: String::new(),
            help: String::new(),
            samples: Vec::new(),
        });
    }
    let family = families.last_mut().unwrap();
    assert!(family.samples.is_empty(), "{comment} after samples");
    let field = match word {
        "HELP" => &mut family.help,
        "TYPE" => &mut family.kind,
        other => panic!("a comment {other}"),
    };
    assert!(field.is_empty(), "{comment} twice");
    *field = match (word, format) {
        ("HELP", _) => unescape(text, format == Format::OpenMetrics),
        (_, Format::Text) => one_of(text, &["counter", "gauge", "histogram", "summary"]),
        (_, Format::OpenMetrics) => {
            one_of(text, &["counter", "gauge", "histogram", "summary", "info"])
        }
    };
}

fn one_of(text: &str, allowed: &[&str]) -> String {
    assert!(allowed.contains(&text), "{text}");
    text.to_owned()
}

fn unescape(text: &str, with_quotes: bool) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => plain.push('\\'),
                Some('n') => plain.push('\n'),
                Some('"') if with_quotes => plain.push('"'),
                other => panic!("escaped {other:?} in {text}"),
            },
            '"' if with_quotes => panic!("a quote in {text}"),
            c => plain.push(c),
        }
    }
    plain
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let mut end = 0;
            let bytes = after.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            labels.push((label.to_owned(), unescape(&after[..end], true)));
            rest = &after[end + 1..];
            match rest.as_bytes()[0] {
                b',' => rest = &rest[1..],
                b'}' => break,
                _ => panic!("{line}"),
            }
        }
        rest = &rest[1..];
    }
    let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), labels.len(), "{line}");
    let text = rest.strip_prefix(' ').expect(line);
    let allowed = |c: char| c.is_ascii_digit() || "+-.e".contains(c);
    let is_special = ["NaN", "+Inf", "-Inf"].contains(&text);
    assert!(is_special || text.chars().all(allowed), "{line}");
    Sample {
        name: name.to_owned(),
        labels,
        value: text.parse().expect(line),
        text: text.to_owned(),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn check_sample(family: &Parsed, sample: &Sample, format: Format) {
    let Parsed { name, kind, .. } = family;
    let suffixes: &[&str] = match (kind.as_str(), format) {
        ("counter", Format::Text) => {
            assert!(name.ends_with("_total"), "{name}");
            &[""]
        }
        ("counter", Format::OpenMetrics) => {
            assert!(!name.ends_with("_total"), "{name}");
            &["_total"]
        }
        ("info", _) => &["_info"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("summary", _) => &["_sum", "_count"],
        _ => &[""],
    };
    let suffix = sample.name.strip_prefix(name.as_str());
    assert!(
        suffix.is_some_and(|s| suffixes.contains(&s)),
        "{sample:?} in {name}"
    );
    let may_fall = kind == "gauge" || suffix == Some("_sum");
    assert!(may_fall || sample.value >= 0.0, "{sample:?}");
    if kind == "info" {
        assert_eq!(sample.value, 1.0);
    }
    let is_bucket = suffix == Some("_bucket");
    assert_eq!(
        is_bucket,
        kind == "histogram" && label(sample, "le").is_some()
    );
}

pub(crate) fn label<'s>(sample: &'s Sample, name: &str) -> Option<&'s str> {
    let mut labels = sample.labels.iter();
    labels
        .find(|(label, _)| label == name)
        .map(|(_, value)| value.as_str())
}

/// Checks that buckets are in order, cumulative and end with `+Inf`, and that the count is that of the last bucket.
fn check_histogram(family: &Parsed) {
    let mut groups: Vec<(Labels, Vec<&Sample>)> = Vec::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.retain(|(name, _)| name != "le");
        match groups.last_mut() {
            Some((last, samples)) if *last == labels => samples.push(sample),
            _ => {
                // All samples of one histogram are together.
                assert!(groups.iter().all(|(other, _)| *other != labels));
                groups.push((labels, vec![sample]));
            }
        }
    }
    for (_, samples) in groups {
        let [buckets @ .., sum, count] = samples.as_slice() else {
            panic!("{samples:?}");
        };
        assert!(sum.name.ends_with("_sum") && count.name.ends_with("_count"));
        let bounds: Vec<f64> = buckets
            .iter()
            .map(|bucket| canonical(label(bucket, "le").unwrap()))
            .collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        assert!(
            buckets.is_sorted_by(|a, b| a.value <= b.value),
            "{buckets:?}"
        );
        assert_eq!(bounds.last(), Some(&f64::INFINITY));
        assert_eq!(buckets.last().unwrap().text, count.text);
    }
}

/// Parses a bound, which must be written as in OpenMetrics.
fn canonical(le: &str) -> f64 {
    let has_point = le.contains(['.', 'e']) || le.ends_with("Inf");
    assert!(has_point && !le.starts_with("inf"), "{le}");
    le.parse().unwrap()
}

/// Returns the value of one series.
pub(crate) fn value(families: &[Parsed], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut samples = families.iter().flat_map(|family| &family.samples);
    let is_it = |sample: &&Sample| {
        sample.name == name
            && sample.labels.len() == labels.len()
            && labels
                .iter()
                .all(|(name, value)| label(sample, name) == Some(value))
    };
    samples.find(is_it).map(|sample| sample.value)
}

/// Returns the sum over all series of this name.
pub(crate) fn total(families: &[Parsed], name: &str) -> f64 {
    let samples = families.iter().flat_map(|family| &family.samples);
    let named = samples.filter(|sample| sample.name == name);
    named.map(|sample| sample.value).sum()
}

/// Checks that Prometheus's own tool finds nothing wrong with a page in the text format.
pub(crate) fn promtool_is_silent(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool =
        promtool.expect("promtool does not start; Debian has it in the package `prometheus`");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
