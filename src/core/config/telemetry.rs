//! The configuration of metrics: what is measured, and where a separate process publishes it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The directives on metrics, which may stand in the main server only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryConfig {
    /// `WSGIMetrics`; the default is On.
    pub metrics: Option<bool>,
    /// `WSGIMetricsListen`.
    pub listen: Option<MetricsListen>,
    /// `WSGISlowRequests`, nanoseconds; 0 for never.
    pub slow_requests: u64,
    /// `WSGIPrometheusClient`
    pub prometheus_client: bool,
    /// `WSGIMetricsSeries`
    pub series: Option<usize>,
}

impl TelemetryConfig {
    /// The default of `WSGIMetricsSeries`.
    pub const SERIES: usize = 1024;
}

/// `WSGIMetricsListen`: where the metrics process listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// An address and a port above 0.
    Tcp(SocketAddr),
    /// Path of a Unix socket, absolute.
    Unix(PathBuf),
}

/// Longest path of a Unix socket. Bytes; `sun_path` of unix(7), without the NUL.
const LONGEST_PATH: usize = 107;

impl MetricsListen {
    /// Parses the argument of the directive.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(word: &str) -> Result<Self, String> {
        if let Some(path) = word.strip_prefix("unix:") {
            return if !path.starts_with('/') {
                Err(format!("'{path}' is not an absolute path"))
            } else if path.len() > LONGEST_PATH {
                Err(format!(
                    "'{path}' is longer than the {LONGEST_PATH} bytes that the path of a socket may have"
                ))
            } else {
                Ok(MetricsListen::Unix(path.into()))
            };
        }
        match word.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(format!("'{word}' has no port")),
            Ok(address) => Ok(MetricsListen::Tcp(address)),
            Err(_) => Err(format!(
                "'{word}' is neither address:port, as 127.0.0.1:9117 or [::1]:9117, nor unix:/path"
            )),
        }
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsListen::Tcp(address) => write!(f, "{address}"),
            MetricsListen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Returns the name of an application, which is what mod_wsgi's `%{RESOURCE}` expands to. `server` is the name and port
/// of a virtual host; `None` for the main server.
pub fn application_name(server: Option<(&str, u16)>, mount: &str) -> String {
    match server {
        None => mount.into(),
        Some((name, 0 | 80 | 443)) => format!("{name}|{mount}"),
        Some((name, port)) => format!("{name}:{port}|{mount}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_called_by_server_and_mount() {
        assert_eq!(application_name(None, "/"), "/");
        assert_eq!(application_name(Some(("a.test", 0)), "/x"), "a.test|/x");
        assert_eq!(application_name(Some(("a.test", 443)), "/"), "a.test|/");
        assert_eq!(
            application_name(Some(("a.test", 8080)), "/"),
            "a.test:8080|/"
        );
    }

    #[test]
    fn addresses_are_read_and_shown_as_written() {
        for word in [
            "127.0.0.1:9117",
            "0.0.0.0:1",
            "[::1]:9117",
            "unix:/run/wsgi metrics",
        ] {
            let parsed = MetricsListen::parse(word).map(|listen| listen.to_string());
            assert_eq!(parsed.as_deref(), Ok(word));
        }
    }

    #[test]
    fn what_cannot_be_listened_at_is_refused() {
        let long = format!("unix:/{}", "x".repeat(LONGEST_PATH));
        assert!(MetricsListen::parse(&long[..long.len() - 1]).is_ok());
        for word in [
            "",
            "9117",
            ":9117",
            "::1:9117",
            "localhost:9117",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "unix:",
            "unix:run/x",
            &long,
        ] {
            assert!(MetricsListen::parse(word).is_err(), "{word}");
        }
    }
}
