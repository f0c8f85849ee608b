//! What a Prometheus answers to queries. It is asked over plain HTTP/1.0, so that its answers end where the connection does.

use crate::Span;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One series of an answer.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its values, by time; they may be infinite or not a number.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Where to ask.
pub(crate) struct Prometheus {
    host: String,
    path: String,
}

impl Prometheus {
    /// From an address like `http://127.0.0.1:9090/prefix`.
    pub(crate) fn at(url: &str) -> Result<Prometheus> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url}: only http:// is spoken here")
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("/{}", path.trim_end_matches('/'))
        };
        Ok(Prometheus { host, path })
    }

    /// The values over a span of time.
    pub(crate) fn range(&self, expr: &str, span: Span) -> Result<Vec<Series>> {
        let query = format!(
            "query_range?query={}&start={}&end={}&step={}",
            encoded(expr),
            span.start,
            span.end,
            span.step
        );
        self.ask(&query).with_context(|| expr.to_owned())
    }

    /// The values at the end of it.
    pub(crate) fn newest(&self, expr: &str, span: Span) -> Result<Vec<Series>> {
        self.ask(&format!("query?query={}&time={}", encoded(expr), span.end))
            .with_context(|| expr.to_owned())
    }

    fn ask(&self, query: &str) -> Result<Vec<Series>> {
        let mut stream = TcpStream::connect(&self.host)
            .with_context(|| format!("cannot connect to {}", self.host))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "GET {}/api/v1/{query} HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.path, self.host
        )?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .context("the answer broke off")?;
        let body = answer
            .windows(4)
            .position(|it| it == b"\r\n\r\n")
            .context("an answer without a body")?
            + 4;
        let answer: Value = serde_json::from_slice(&answer[body..])
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&answer[..body])))?;
        if answer["status"] != "success" {
            bail!("refused: {}", answer["error"]);
        }
        answer["data"]["result"]
            .as_array()
            .context("no result")?
            .iter()
            .map(series)
            .collect()
    }
}

fn series(value: &Value) -> Result<Series> {
    let labels = value["metric"]
        .as_object()
        .context("a series without labels")?;
    let labels = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let points = match value["values"].as_array() {
        Some(values) => values.iter().map(point).collect::<Result<_>>()?,
        None => vec![point(&value["value"])?],
    };
    Ok(Series { labels, points })
}

fn point(value: &Value) -> Result<(f64, f64)> {
    let at = value[0].as_f64().context("a sample without a time")?;
    let value = value[1]
        .as_str()
        .and_then(|it| it.parse().ok())
        .context("a sample without a value")?;
    Ok((at, value))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (byte as char).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on is meant to panic where it stands"
)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Asks a server that gives one answer; returns the first line of what it was asked, too.
    fn asked(answer: &'static str) -> (String, Result<Vec<Series>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request)
                .lines()
                .next()
                .unwrap()
                .to_owned()
        });
        let span = Span {
            start: 10.0,
            end: 20.0,
            step: 5.0,
        };
        let series = Prometheus::at(&url)
            .unwrap()
            .range("up{job=~\"a|b\"} + 1", span);
        (server.join().unwrap(), series)
    }

    #[test]
    fn answers_are_read() {
        let (request, series) = asked(
            r#"{"status":"success","data":{"result":[{"metric":{"app":"shop"},"values":[[10,"1.5"],[15,"NaN"],[20,"+Inf"]]}]}}"#,
        );
        assert_eq!(
            request,
            "GET /prefix/api/v1/query_range?query=up%7Bjob%3D~%22a%7Cb%22%7D%20%2B%201&start=10&end=20&step=5 HTTP/1.0"
        );
        let [series] = &series.unwrap()[..] else {
            panic!("one series was sent")
        };
        assert_eq!(series.labels["app"], "shop");
        assert_eq!(series.points[0], (10.0, 1.5));
        assert!(series.points[1].1.is_nan() && series.points[2].1.is_infinite());
    }

    #[test]
    fn refusals_and_rubbish_are_errors() {
        for (answer, said) in [
            (r#"{"status":"error","error":"parse error"}"#, "parse error"),
            ("<html>", "no JSON"),
            ("{}", "refused"),
        ] {
            let error = format!("{:#}", asked(answer).1.unwrap_err());
            assert!(error.contains(said) && error.contains("up{job"), "{error}");
        }
        assert!(Prometheus::at("https://127.0.0.1").is_err());
    }
}
