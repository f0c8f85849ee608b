//! A client of Prometheus's HTTP API, for the plots and for the tests.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// One series of a result.
#[derive(Debug)]
pub struct Series {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Values by time; they may be infinite or NaN.
    pub points: Vec<(f64, f64)>,
}

/// A Prometheus to ask.
pub struct Client {
    agent: ureq::Agent,
    address: String,
}

impl Client {
    /// Returns a client of the Prometheus at an address like `http://127.0.0.1:9090/prefix`.
    pub fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            // The body of an error has the reason.
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .proxy(None)
            .build();
        Self {
            agent: agent.into(),
            address: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Returns the values of a query from `start` to `end`, one every `step` seconds.
    pub fn range(&self, query: &str, start: f64, end: f64, step: f64) -> Result<Vec<Series>> {
        let [start, end, step] = [start, end, step].map(|seconds| seconds.to_string());
        let span = [("start", &*start), ("end", &end), ("step", &step)];
        self.query("query_range", query, &span)
    }

    /// Returns the values of a query at the Unix time `at`, or now if that is `None`.
    pub fn instant(&self, query: &str, at: Option<f64>) -> Result<Vec<Series>> {
        let at = at.map(|at| at.to_string());
        let time = at.as_deref().map(|at| ("time", at));
        self.query("query", query, time.as_slice())
    }

    fn query(&self, path: &str, query: &str, rest: &[(&str, &str)]) -> Result<Vec<Series>> {
        let mut parameters = vec![("query", query)];
        parameters.extend(rest);
        let all = || {
            let data = self.get(path, &parameters)?;
            if data["resultType"] == "scalar" {
                let (labels, point) = (BTreeMap::new(), point(&data["result"])?);
                let points = vec![point];
                return Ok(vec![Series { labels, points }]);
            }
            let result = data["result"].as_array().context("no result")?;
            result.iter().map(series).collect()
        };
        all().with_context(|| query.to_owned())
    }

    /// Returns the `data` of the response to `GET /api/v1/PATH`.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}/api/v1/{path}", self.address);
        let request = self.agent.get(&url);
        let mut response = request
            .query_pairs(parameters.iter().copied())
            .call()
            .with_context(|| format!("no answer from {}", self.address))?;
        let body = response.body_mut().with_config().read_to_string()?;
        let mut answer: Value = serde_json::from_str(&body)
            .with_context(|| format!("status {}, and no JSON", response.status()))?;
        if answer["status"] != "success" {
            bail!("refused: {}", answer["error"]);
        }
        Ok(answer["data"].take())
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

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on is meant to panic where it stands"
)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// Queries a server that gives one answer. Returns also the first line of the request.
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
        let series = Client::new(&url).range("up{job=~\"a|b\"} + 1", 10.0, 20.0, 5.0);
        (server.join().unwrap(), series)
    }

    #[test]
    fn answers_are_read() {
        let (request, series) = asked(
            r#"{"status":"success","data":{"result":[{"metric":{"app":"shop"},"values":[[10,"1.5"],[15,"NaN"],[20,"+Inf"]]}]}}"#,
        );
        let query = request.split(['?', ' ']).nth(2).unwrap();
        assert_eq!(
            query, "query=up%7Bjob%3D~%22a%7Cb%22%7D%20%2B%201&start=10&end=20&step=5",
            "{request}"
        );
        assert!(
            request.starts_with("GET /prefix/api/v1/query_range?"),
            "{request}"
        );
        let [series] = &series.unwrap()[..] else {
            panic!("one series was sent")
        };
        assert_eq!(series.labels["app"], "shop");
        assert_eq!(series.points[0], (10.0, 1.5));
        assert!(series.points[1].1.is_nan() && series.points[2].1.is_infinite());
    }

    #[test]
    fn scalars_are_series_without_labels() {
        let answer = r#"{"status":"success","data":{"resultType":"scalar","result":[10,"2"]}}"#;
        let series = asked(answer).1.unwrap();
        assert_eq!(series[0].points, [(10.0, 2.0)]);
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
        let encrypted = Client::new("https://127.0.0.1").instant("up", None);
        assert!(encrypted.is_err());
    }
}
