//! The ways to ask a server for its metrics and its status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::client::connection::{ClientError, Connection};
use crate::client::request::Request;
use crate::client::response::Response;
use crate::machine::stage;
use crate::metrics::exposition::Exposition;
use crate::server::running::Server;
use crate::wait::eventually::{PATIENCE, eventually, eventually_within};

impl Server {
    /// `/metrics`, from a child.
    #[track_caller]
    pub fn metrics(&self) -> Exposition {
        page(&self.get("/metrics"))
    }

    /// `/metrics`, from the helper process.
    #[track_caller]
    pub fn scrape(&self) -> Exposition {
        page(&self.ask_helper(&Request::get("/metrics")).unwrap())
    }

    /// Sends one request to the helper process, on a new connection.
    pub fn ask_helper(&self, request: &Request) -> Result<Response, ClientError> {
        Connection::open(self.metrics_address())?.exchange(request)
    }

    /// `/wsgi-status?format=json`, from a child.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/wsgi-status?format=json").expect(200).json()
    }

    /// Returns the phases of the running requests whose paths begin with `path`.
    #[track_caller]
    pub fn phases(&self, path: &str) -> Vec<String> {
        let status = self.status();
        let running = status["running"].as_array().expect("a list").iter();
        let of = running.filter(|request| {
            let other = request["path"].as_str();
            other.is_some_and(|other| other.starts_with(path))
        });
        of.map(|request| request["phase"].as_str().expect("a phase").to_owned())
            .collect()
    }

    /// Waits until exactly `count` requests of these paths wait in a queue or run. It reads the status twice, because
    /// the status may change a moment before the queue does.
    #[track_caller]
    pub fn wait_until_there(&self, path: &str, count: usize) {
        for _ in 0..2 {
            eventually("the requests are there", || {
                let phases = self.phases(path);
                // A request that is being prepared is not in a queue yet.
                let not_yet = ["preparing", "waiting for its process group"];
                let here = phases
                    .iter()
                    .filter(|phase| !not_yet.contains(&phase.as_str()));
                (phases.len() == count && here.count() == count).then_some(())
            });
        }
    }

    /// Waits until the sum of these series is `expected`: a request counts a moment after the client has its response.
    #[track_caller]
    pub fn expect_count(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let expected = expected as f64;
        let mut last = 0.0;
        let reached = eventually_within(PATIENCE, || {
            // A child that is killed also ends its connections.
            let response = self.try_send(&Request::get("/metrics")).ok()?;
            last = page(&response).sum(name, labels);
            // A sum above `expected` will not decrease.
            (last >= expected).then_some(())
        });
        assert!(
            reached.is_some() && last == expected,
            "{name}{labels:?} is {last}, not {expected}"
        );
    }

    /// Runs `wsgictl` with these arguments and `--segment` with the file of this server.
    pub fn wsgictl(&self, arguments: &[&str]) -> Output {
        Command::new(stage::wsgictl())
            .args(arguments)
            .arg("--segment")
            .arg(self.segment())
            .output()
            .expect("wsgictl can be run")
    }

    /// Returns the file of the segment.
    pub fn segment(&self) -> PathBuf {
        Path::new(self.root()).join("mod_wsgi_rs.segment")
    }
}

/// The body of a response that must be complete and have status 200.
#[track_caller]
fn page(response: &Response) -> Exposition {
    assert_eq!(response.status(), 200, "{}", response.text());
    assert!(response.is_complete());
    match Exposition::parse(&response.text()) {
        Ok(page) => page,
        Err(error) => panic!("{error}\n{}", response.text()),
    }
}
