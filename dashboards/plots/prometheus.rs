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
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                (byte as char).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
