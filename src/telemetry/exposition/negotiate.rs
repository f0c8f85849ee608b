//! Negotiation of the format that a scrape is answered in.

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
    const fn media(self) -> (&'static [u8], &'static [u8], &'static [u8]) {
        match self {
            Format::Text => (b"text", b"plain", b"0.0.4"),
            Format::OpenMetrics => (b"application", b"openmetrics-text", b"1.0.0"),
        }
    }
}

/// Returns the format that the value of an `Accept` header prefers. Without a preference this is text, and also if it
/// accepts neither: numbers in another format are of more use than a refusal.
pub fn negotiate(accept: Option<&[u8]>) -> Format {
    let accept = accept.unwrap_or_default();
    if quality(accept, Format::OpenMetrics) > quality(accept, Format::Text) {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Returns the weight that the most specific range of `accept` gives a format, in thousandths.
fn quality(accept: &[u8], format: Format) -> u16 {
    let ranges = accept.split(|&byte| byte == b',');
    ranges
        .filter_map(|range| matching(range, format))
        .max()
        .map_or(0, |(_, quality)| quality)
}

/// Returns how specifically a media range names the format, and its weight; `None` if it does not name it or is no
/// range.
fn matching(range: &[u8], format: Format) -> Option<(u8, u16)> {
    let (kind, subtype, version) = format.media();
    let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let media = parts.next()?;
    let slash = media.iter().position(|&byte| byte == b'/')?;
    let mut specific = match (&media[..slash], &media[slash + 1..]) {
        (b"*", b"*") => 0,
        (t, b"*") if t.eq_ignore_ascii_case(kind) => 1,
        (t, s) if t.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 2,
        _ => return None,
    };
    let mut quality = 1000;
    for parameter in parts {
        let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let name = parameter[..equals].trim_ascii();
        let value = unquoted(parameter[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"q") {
            quality = thousandths(value)?;
        } else if name.eq_ignore_ascii_case(b"version") {
            if value != version {
                return None;
            }
            specific += 1;
        }
    }
    Some((specific, quality))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Parses a weight (RFC 9110, section 12.4.2): 0 to 1 with at most three decimals.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = decimals.iter().copied().chain([b'0'; 3]).take(3);
    let fraction = padded.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
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
            ("application/openmetrics-text;q=0.0001", Text),
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
