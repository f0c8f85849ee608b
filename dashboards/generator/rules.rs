//! Recording rules, and both kinds of rules as Prometheus reads them.

use crate::alerts::alerts;
use crate::parameters::Parameters;
use crate::yaml::{GENERATED, quoted};

/// A series that Prometheus works out ahead. Its name is `level:metric:operations`.
#[derive(Debug)]
pub struct Recording {
    /// The name of the series.
    pub name: &'static str,
    /// PromQL.
    pub expr: &'static str,
}

/// The recording rules; those that others use come first.
pub static RECORDINGS: &[Recording] = &[
    Recording {
        name: "job_instance_app:wsgi_requests:rate5m",
        expr: "sum by (job, instance, app) (rate(wsgi_requests_total[5m]))",
    },
    Recording {
        name: "job_instance_app:wsgi_request_errors:rate5m",
        expr: r#"sum by (job, instance, app) (rate(wsgi_requests_total{code="5xx"}[5m]))"#,
    },
    // An application that never failed has a ratio of 0, not none.
    Recording {
        name: "job_instance_app:wsgi_request_errors:ratio_rate5m",
        expr: "(job_instance_app:wsgi_request_errors:rate5m or 0 * job_instance_app:wsgi_requests:rate5m) / (job_instance_app:wsgi_requests:rate5m > 0)",
    },
    Recording {
        name: "job_instance_app_le:wsgi_request_duration_seconds_bucket:rate5m",
        expr: "sum by (job, instance, app, le) (rate(wsgi_request_duration_seconds_bucket[5m]))",
    },
    Recording {
        name: "job_instance_app:wsgi_request_duration_seconds:p99_5m",
        expr: "histogram_quantile(0.99, job_instance_app_le:wsgi_request_duration_seconds_bucket:rate5m)",
    },
    Recording {
        name: "job_app:wsgi_slo_errors:ratio_rate5m",
        expr: r#"sum by (job, app) (rate(wsgi_requests_total{code=~"5xx|none"}[5m])) / sum by (job, app) (rate(wsgi_requests_total[5m]))"#,
    },
    Recording {
        name: "job_app:wsgi_slo_errors:ratio_rate30m",
        expr: r#"sum by (job, app) (rate(wsgi_requests_total{code=~"5xx|none"}[30m])) / sum by (job, app) (rate(wsgi_requests_total[30m]))"#,
    },
    Recording {
        name: "job_app:wsgi_slo_errors:ratio_rate1h",
        expr: r#"sum by (job, app) (rate(wsgi_requests_total{code=~"5xx|none"}[1h])) / sum by (job, app) (rate(wsgi_requests_total[1h]))"#,
    },
    Recording {
        name: "job_app:wsgi_slo_errors:ratio_rate6h",
        expr: r#"sum by (job, app) (rate(wsgi_requests_total{code=~"5xx|none"}[6h])) / sum by (job, app) (rate(wsgi_requests_total[6h]))"#,
    },
];

/// `recording-rules.yml`.
pub fn recording_rules() -> String {
    let mut text = format!("{GENERATED}groups:\n  - name: wsgi-recording\n    rules:\n");
    for rule in RECORDINGS {
        text += &format!(
            "      - record: {}\n        expr: {}\n",
            rule.name,
            quoted(rule.expr)
        );
    }
    text
}

/// `alert-rules.yml`.
pub fn alert_rules(parameters: &Parameters) -> String {
    let mut text = format!("{GENERATED}groups:\n  - name: wsgi-alerts\n    rules:\n");
    for alert in alerts() {
        text += &format!(
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          description: {}\n          runbook_url: {}\n",
            alert.name,
            quoted(&(alert.expr)(parameters)),
            alert.wait,
            alert.severity.label(),
            quoted(alert.summary),
            quoted(alert.description),
            quoted(&parameters.runbook_entry(alert.name)),
        );
    }
    text
}
