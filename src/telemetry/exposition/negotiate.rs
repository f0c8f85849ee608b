//! Negotiation of the format that a scrape is answered in.

use mediatype::{MediaType, MediaTypeList, Name, ReadParams, names};

const VERSION: Name<'static> = Name::new_unchecked("version");

/// Format of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format, version 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns type, subtype and version.
    const fn media(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Format::Text => ("text", "plain", "0.0.4"),
            Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
        }
    }
}

/// Returns the format that the value of an `Accept` header prefers. Without a preference this is text, and also if it
/// accepts neither: numbers in another format are of more use than a refusal.
pub fn negotiate(accept: Option<&[u8]>) -> Format {
    // A header with other characters than those of media ranges has no preference.
    let accept = str::from_utf8(accept.unwrap_or_default()).unwrap_or_default();
    if quality(accept, Format::OpenMetrics) > quality(accept, Format::Text) {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Returns the weight that the most specific range of `accept` gives a format, from 0 to 1.
fn quality(accept: &str, format: Format) -> f32 {
    let ranges = MediaTypeList::new(accept).filter_map(Result::ok);
    ranges
        .filter_map(|range| matching(&range, format))
        .max_by(|(a, x), (b, y)| a.cmp(b).then(x.total_cmp(y)))
        .map_or(0.0, |(_, quality)| quality)
}

/// Returns how specifically a media range names the format, and its weight (RFC 9110, section 12.4.2); `None` if it does not
/// name the format, or its weight is not between 0 and 1.
fn matching(range: &MediaType<'_>, format: Format) -> Option<(u8, f32)> {
    let (kind, subtype, version) = format.media();
    let specific = match (range.ty.as_str(), range.subty.as_str()) {
        ("*", "*") => 0,
        (t, "*") if t.eq_ignore_ascii_case(kind) => 1,
        (t, s) if t.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 2,
        _ => return None,
    };
    let names_version = match range.get_param(VERSION) {
        Some(theirs) if theirs.unquoted_str() != version => return None,
        named => u8::from(named.is_some()),
    };
    let quality = match range.get_param(names::Q) {
        Some(weight) => weight.as_str().parse().ok()?,
        None => 1.0,
    };
    (0.0..=1.0)
        .contains(&quality)
        .then_some((specific + names_version, quality))
}

#[cfg(test)]
mod tests {
    use super::Format::{OpenMetrics, Text};
    use super::*;

    #[test]
    fn what_scrapers_send_gets_what_they_prefer() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let histograms = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
            application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.9,*/*;q=0.1";
        for (accept, format) in [
            (prometheus_2, OpenMetrics),
            (prometheus_3, OpenMetrics),
            (histograms, Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Text,
            ),
            ("*/*", Text),
            ("", Text),
            ("text/plain", Text),
            ("text/plain, application/openmetrics-text", Text),
            ("application/openmetrics-text", OpenMetrics),
            (
                "APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.001",
                OpenMetrics,
            ),
            ("application/*", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Text),
            (
                "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
                Text,
            ),
            ("application/openmetrics-text;q=0, text/plain;q=0", Text),
            ("application/openmetrics-text;q=0.3, */*;q=0.4", Text),
            ("*/*, text/plain;q=0.1", OpenMetrics),
            ("application/openmetrics-text;q=2", Text),
            ("application/openmetrics-text;q=", Text),
            ("application/openmetrics-text;q=1.001", Text),
            (";,/;q=,;;=", Text),
        ] {
            assert_eq!(negotiate(Some(accept.as_bytes())), format, "{accept}");
        }
        assert_eq!(negotiate(None), Text);
        assert_eq!(negotiate(Some(&[0xff, b'/', 0, b';', b'q', b'='])), Text);
    }
}
