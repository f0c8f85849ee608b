//! Recording rules, and the files of both kinds of rules.

use crate::alerts::alerts;
use crate::parameters::Parameters;
use crate::yaml::{self, Annotations, Group, Rule, Rules};

/// A series that Prometheus computes in advance. Its name is `level:metric:operations`.
#[derive(Debug)]
pub struct Recording {
    /// Name of the series.
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
    // An application that never failed has a ratio of 0 instead of none.
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

/// Returns the content of `recording-rules.yml`.
pub fn recording_rules() -> String {
    let rules = RECORDINGS.iter().map(|rule| Rule::Record {
        record: rule.name,
        expr: rule.expr,
    });
    file("wsgi-recording", rules.collect())
}

/// Returns the content of `alert-rules.yml`.
pub fn alert_rules(parameters: &Parameters) -> String {
    let rules = alerts().map(|alert| Rule::Alert {
        alert: alert.name,
        expr: (alert.expr)(parameters),
        r#for: alert.wait,
        labels: [("severity", alert.severity.label().to_owned())].into(),
        annotations: Annotations {
            summary: alert.summary.to_owned(),
            description: alert.description.to_owned(),
            runbook_url: parameters.runbook_entry(alert.name),
        },
    });
    file("wsgi-alerts", rules.collect())
}

fn file(name: &'static str, rules: Vec<Rule>) -> String {
    let groups = [Group { name, rules }];
    yaml::file("", &Rules { groups })
}
