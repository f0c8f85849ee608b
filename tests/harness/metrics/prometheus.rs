//! A real Prometheus that scrapes a server under test, and the check of a page by promtool.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use wsgi_dashboards::prometheus::Client;

use crate::client::connection::Connection;
use crate::client::request::Request;
use crate::machine::ports::free_port;
use crate::metrics::exposition::Labels;
use crate::wait::eventually::eventually;

/// Ends the test unless `promtool check metrics` finds nothing to report on a page.
#[track_caller]
pub fn promtool_is_silent(page: &str) {
    let mut child = program("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| missing("promtool", &error));
    let mut input = child.stdin.take().expect("it is a pipe");
    // promtool reads its whole input before it prints anything.
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.is_empty(),
        "promtool: {} {said}\n{page}",
        output.status
    );
}

fn program(name: &str) -> Command {
    Command::new(name)
}

fn missing(name: &str, error: &std::io::Error) -> ! {
    assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
    panic!(
        "{name} is not there: `scripts/setup tests` fetches it on Debian and Ubuntu, elsewhere see https://prometheus.io"
    )
}

/// A target to scrape.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The value of the label `job`.
    pub job: &'t str,
    /// The address of the target.
    pub address: SocketAddr,
}

/// A sample in a response of Prometheus.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// A Prometheus that runs until it is dropped.
pub struct Prometheus {
    child: Child,
    client: Client,
    folder: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `/metrics` of `targets` each second, with these rule files, and waits until it
    /// is ready.
    pub fn start(targets: &[Target<'_>], rules: &[&Path]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = String::from(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files:\n",
        );
        for rule in rules {
            config.push_str(&format!("  - '{}'\n", rule.display()));
        }
        config.push_str("scrape_configs:\n");
        for Target { job, address } in targets {
            config.push_str(&format!(
                "  - job_name: {job}\n    static_configs: [{{targets: ['{address}']}}]\n"
            ));
        }
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log = File::create(folder.path().join("log")).unwrap();
        let child = program("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| missing("prometheus", &error));
        let mut prometheus = Prometheus {
            child,
            client: Client::new(&format!("http://{address}")),
            folder,
        };
        eventually("Prometheus is ready", || {
            if let Some(status) = prometheus.child.try_wait().unwrap() {
                panic!("Prometheus ended with {status}: {}", prometheus.log());
            }
            let mut connection = Connection::open(address).ok()?;
            let response = connection.exchange(&Request::get("/-/ready")).ok()?;
            (response.status() == 200).then_some(())
        });
        prometheus
    }

    /// Returns the result of a query at the present time.
    #[track_caller]
    pub fn query(&self, query: &str) -> Vec<Point> {
        let series = self.client.instant(query, None);
        let series = series.unwrap_or_else(|error| panic!("{error:#}"));
        let points = series.into_iter().map(|series| Point {
            labels: series.labels,
            value: series.points[0].1,
        });
        points.collect()
    }

    /// Waits until every target has been scraped `count` times.
    pub fn wait_for_scrapes(&self, count: u32) {
        eventually("Prometheus scrapes", || {
            let seen = self.query("count_over_time(up[1h])");
            let enough = |point: &Point| point.value >= f64::from(count);
            (!seen.is_empty() && seen.iter().all(enough)).then_some(())
        });
    }

    /// Returns the names of the loaded alerts; ends the test if a rule could not be evaluated.
    pub fn alerts(&self) -> Vec<String> {
        let rules = self.client.get("rules", &[]).expect("the rules");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut names = Vec::new();
        for rule in list(&rules["groups"])
            .iter()
            .flat_map(|group| list(&group["rules"]))
        {
            assert_ne!(rule["health"], "err", "{rule}");
            if rule["type"] == "alerting" {
                names.push(rule["name"].as_str().expect("a name").to_owned());
            }
        }
        names
    }

    /// Returns the log of this Prometheus.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data are in a folder that is removed, so killing it loses nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
