//! Tests of the rules: when each alert must fire, and when it must not. They hold for the default thresholds.

use crate::alerts::{Alert, alerts};
use crate::parameters::Parameters;
use crate::rules::RECORDINGS;
use crate::yaml::{self, Alerting, Annotations, Evaluation, Firing, Sample, Series, Test, Tests};

/// Series over time, and the expected result at one moment.
#[derive(Debug)]
pub struct Case {
    /// Name of the alert or recorded series under test.
    pub subject: &'static str,
    /// What happens in the case.
    pub story: &'static str,
    /// Series with promtool's notation of values, a minute apart. `$J` stands for job and instance.
    pub series: &'static [(&'static str, &'static str)],
    /// Time of the evaluation.
    pub at: &'static str,
    /// Expected result.
    pub expected: Expected,
}

/// The expected result of a case.
#[derive(Debug)]
pub enum Expected {
    /// The alert fires with these labels (besides name and severity) and with this text as its value.
    Fires(&'static [(&'static str, &'static str)], &'static str),
    /// The alert does not fire.
    Calm,
    /// The recorded series has this value for job, instance and application.
    Value(f64),
}

use Expected::{Calm, Fires, Value};

const APP: &[(&str, &str)] = &[("instance", "a:80"), ("job", "$job"), ("app", "shop")];
const SERVER: &[(&str, &str)] = &[("instance", "a:80"), ("job", "$job")];
const GROUP: &[(&str, &str)] = &[
    ("instance", "a:80"),
    ("job", "$job"),
    ("process_group", "site"),
];
const JOB_APP: &[(&str, &str)] = &[("job", "$job"), ("app", "shop")];

macro_rules! case {
    ($subject:literal, $story:literal, $at:literal, $expected:expr, $($series:literal => $values:literal),+ $(,)?) => {
        Case { subject: $subject, story: $story, at: $at, expected: $expected, series: &[$(($series, $values)),+] }
    };
}

/// The cases.
pub static CASES: &[Case] = &[
    case!("WsgiMetricsAbsent", "a server is down", "6m", Fires(SERVER, "0"),
        "up{$J}" => "1 0x10", "wsgi_build_info{job=\"$job\", instance=\"b:80\"}" => "1x10"),
    case!("WsgiMetricsAbsent", "something else answers", "6m", Fires(&[("job", "$job")], "1"),
        "up{$J}" => "1x10"),
    case!("WsgiMetricsAbsent", "down for three minutes only", "6m", Calm,
        "up{$J}" => "1x2 0x2 1x5", "wsgi_build_info{$J}" => "1x10"),
    case!("WsgiErrorBudgetBurnFast", "one request in ten fails, for an hour", "62m", Fires(JOB_APP, "10%"),
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+90x70",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+10x70"),
    case!("WsgiErrorBudgetBurnFast", "requests that get no answer count as well", "62m", Fires(JOB_APP, "10%"),
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+90x70",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"none\"}" => "0+10x70"),
    case!("WsgiErrorBudgetBurnFast", "one in a hundred fails", "62m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+99x70",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+1x70"),
    case!("WsgiErrorBudgetBurnFast", "it was bad, and is over", "62m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+90x70",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+10x50 500x20"),
    case!("WsgiErrorBudgetBurnFast", "no requests at all", "62m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0x70",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0x70"),
    case!("WsgiErrorBudgetBurnSlow", "one request in a hundred fails, for hours", "380m", Fires(JOB_APP, "1%"),
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+99x400",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+1x400"),
    case!("WsgiErrorBudgetBurnSlow", "one in a thousand fails", "380m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+999x400",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+1x400"),
    case!("WsgiLatencyHigh", "all requests take between 2.5 and 5 s", "20m", Fires(APP, "4.975s"),
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+60x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"2.5\"}" => "0x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"5.0\"}" => "0+60x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"+Inf\"}" => "0+60x20"),
    case!("WsgiLatencyHigh", "a single slow request every twenty minutes", "25m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+0.05x30",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"2.5\"}" => "0x30",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"5.0\"}" => "0+0.05x30",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"+Inf\"}" => "0+0.05x30"),
    case!("WsgiLatencyHigh", "all within a second", "20m", Calm,
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+60x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"1.0\"}" => "0+60x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"+Inf\"}" => "0+60x20"),
    case!("WsgiMpmSaturated", "95 of 100 are busy", "15m", Fires(SERVER, "95%"),
        "wsgi_mpm_workers{$J, state=\"idle\"}" => "3x20", "wsgi_mpm_workers{$J, state=\"open_slot\"}" => "2x20",
        "wsgi_mpm_workers{$J, state=\"writing\"}" => "95x20"),
    case!("WsgiMpmSaturated", "all that run are busy, but half may still be started", "15m", Calm,
        "wsgi_mpm_workers{$J, state=\"idle\"}" => "0x20", "wsgi_mpm_workers{$J, state=\"open_slot\"}" => "50x20",
        "wsgi_mpm_workers{$J, state=\"writing\"}" => "50x20"),
    case!("WsgiQueueWaitHigh", "all wait between 0.5 and 1 s", "20m", Fires(APP, "975ms"),
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"0.5\"}" => "0x20",
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"1.0\"}" => "0+60x20",
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"+Inf\"}" => "0+60x20"),
    case!("WsgiQueueWaitHigh", "one in fifty does", "20m", Calm,
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"0.5\"}" => "0+98x20",
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"1.0\"}" => "0+100x20",
        "wsgi_queue_wait_seconds_bucket{$J, app=\"shop\", le=\"+Inf\"}" => "0+100x20"),
    case!("WsgiRequestsRejected", "the application is not loaded", "10m",
        Fires(&[("instance", "a:80"), ("job", "$job"), ("app", "shop"), ("reason", "not_loaded")], "1"),
        "wsgi_requests_rejected_total{$J, app=\"shop\", reason=\"not_loaded\"}" => "0+60x20"),
    case!("WsgiRequestsRejected", "children that end refuse some", "10m", Calm,
        "wsgi_requests_rejected_total{$J, app=\"shop\", reason=\"draining\"}" => "0+60x20"),
    case!("WsgiRequestStuck", "one has been running for ten minutes and more", "16m", Fires(APP, "16m 0s"),
        "wsgi_oldest_request_age_seconds{$J, app=\"shop\"}" => "0+60x20"),
    case!("WsgiRequestStuck", "long ones, but they come back", "16m", Calm,
        "wsgi_oldest_request_age_seconds{$J, app=\"shop\"}" => "0 60 120 180 240 299 0 60 120 180 240 299 0 60 120 180 240 299"),
    case!("WsgiGilContention", "half of the time is waiting", "25m", Fires(APP, "50%"),
        "wsgi_gil_wait_seconds_sum{$J, app=\"shop\"}" => "0+30x30",
        "wsgi_request_duration_seconds_sum{$J, app=\"shop\", code=\"2xx\"}" => "0+60x30"),
    case!("WsgiGilContention", "a tenth is", "25m", Calm,
        "wsgi_gil_wait_seconds_sum{$J, app=\"shop\"}" => "0+6x30",
        "wsgi_request_duration_seconds_sum{$J, app=\"shop\", code=\"2xx\"}" => "0+60x30"),
    case!("WsgiChildrenKilled", "one a minute", "15m", Fires(SERVER, "15"),
        "wsgi_children_exited_total{$J, how=\"killed\"}" => "0+1x20"),
    case!("WsgiChildrenKilled", "one, and many that end by themselves", "15m", Calm,
        "wsgi_children_exited_total{$J, how=\"killed\"}" => "0x10 1x10",
        "wsgi_children_exited_total{$J, how=\"clean\"}" => "0+10x20"),
    case!("WsgiChildrenKilled", "one a minute in a process group, whose name the alert has", "15m", Fires(GROUP, "15"),
        "wsgi_children_exited_total{$J, process_group=\"site\", how=\"killed\"}" => "0+1x20",
        "wsgi_children_exited_total{$J, how=\"killed\"}" => "0x20"),
    case!("WsgiProcessGroupDown", "each process of a group ends while it starts", "12m", Fires(GROUP, "0"),
        "wsgi_children{$J, process_group=\"site\", state=\"ready\"}" => "0x20",
        "wsgi_children{$J, state=\"ready\"}" => "4x20",
        "wsgi_children_started_total{$J, process_group=\"site\"}" => "0+2x20"),
    case!("WsgiProcessGroupDown", "the only process of a group sleeps until a request comes", "12m", Calm,
        "wsgi_children{$J, process_group=\"site\", state=\"ready\"}" => "1x5 0x15",
        "wsgi_children_started_total{$J, process_group=\"site\"}" => "1x20"),
    case!("WsgiApplicationLoadFailing", "every load fails", "10m", Fires(APP, ""),
        "wsgi_application_loads_total{$J, app=\"shop\", result=\"error\"}" => "0+5x20"),
    case!("WsgiApplicationLoadFailing", "one failed, a while ago", "20m", Calm,
        "wsgi_application_loads_total{$J, app=\"shop\", result=\"error\"}" => "0 1x30",
        "wsgi_application_loads_total{$J, app=\"shop\", result=\"ok\"}" => "0+1x30"),
    case!("WsgiInterpreterRestartLoop", "eighty in a quarter of an hour, with 16 children at most", "20m", Fires(APP, "75"),
        "wsgi_interpreter_starts_total{$J, app=\"shop\"}" => "0+5x30", "wsgi_mpm_children_limit{$J}" => "16x30"),
    case!("WsgiInterpreterRestartLoop", "all children are replaced once", "20m", Calm,
        "wsgi_interpreter_starts_total{$J, app=\"shop\"}" => "16x10 32x20", "wsgi_mpm_children_limit{$J}" => "16x30"),
    case!("WsgiMemoryGrowth", "100 MB, and 20 MB more each hour", "480m", Fires(SERVER, "5.425ki"),
        "wsgi_child_resident_memory_max_bytes{$J}" => "100000000+333333x500"),
    case!("WsgiMemoryGrowth", "warming up, then even", "480m", Calm,
        "wsgi_child_resident_memory_max_bytes{$J}" => "100000000+1000000x60 160000000x440"),
    case!("WsgiGcPauseLong", "between half a second and one", "40m", Fires(APP, "995ms"),
        "wsgi_python_gc_pause_seconds_bucket{$J, app=\"shop\", generation=\"2\", le=\"0.5\"}" => "0x50",
        "wsgi_python_gc_pause_seconds_bucket{$J, app=\"shop\", generation=\"2\", le=\"1.0\"}" => "0+1x50",
        "wsgi_python_gc_pause_seconds_bucket{$J, app=\"shop\", generation=\"2\", le=\"+Inf\"}" => "0+1x50"),
    case!("WsgiGcPauseLong", "under a tenth of one", "40m", Calm,
        "wsgi_python_gc_pause_seconds_bucket{$J, app=\"shop\", generation=\"2\", le=\"0.1\"}" => "0+1x50",
        "wsgi_python_gc_pause_seconds_bucket{$J, app=\"shop\", generation=\"2\", le=\"+Inf\"}" => "0+1x50"),
    case!("WsgiMetricsOverflow", "an application found no room", "30m",
        Fires(&[("instance", "a:80"), ("job", "$job"), ("kind", "application")], "1"),
        "wsgi_metrics_overflows_total{$J, kind=\"application\"}" => "0x10 1x50"),
    case!("WsgiMetricsOverflow", "that was hours ago", "150m", Calm,
        "wsgi_metrics_overflows_total{$J, kind=\"application\"}" => "0x10 1x190"),
    case!("job_instance_app:wsgi_request_errors:ratio_rate5m", "one in four fails", "10m", Value(0.25),
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+45x20",
        "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"5xx\"}" => "0+15x20"),
    case!("job_instance_app:wsgi_request_errors:ratio_rate5m", "an application that never failed has a ratio", "10m",
        Value(0.0), "wsgi_requests_total{$J, app=\"shop\", method=\"GET\", code=\"2xx\"}" => "0+90x20"),
    case!("job_instance_app:wsgi_request_duration_seconds:p99_5m", "all take between 0.5 and 0.75 s", "10m", Value(0.7475),
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"0.5\"}" => "0x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"0.75\"}" => "0+60x20",
        "wsgi_request_duration_seconds_bucket{$J, app=\"shop\", code=\"2xx\", le=\"+Inf\"}" => "0+60x20"),
];

/// Returns the content of `rules-test.yml`, with one test for each case.
pub fn rules_test(parameters: &Parameters) -> String {
    let tests = Tests {
        rule_files: ["recording-rules.yml", "alert-rules.yml"],
        evaluation_interval: "1m",
        tests: CASES.iter().map(|case| test(case, parameters)).collect(),
    };
    let comment = "# Run with `promtool test rules rules-test.yml`.\n";
    yaml::file(comment, &tests)
}

fn test(case: &Case, parameters: &Parameters) -> Test {
    let series = case.series.iter().map(|&(series, values)| Series {
        series: series
            .replace("$J", "job=\"$job\", instance=\"a:80\"")
            .replace("$job", &parameters.job),
        values,
    });
    Test {
        name: format!("{}: {}", case.subject, case.story),
        interval: "1m",
        input_series: series.collect(),
        expected: expected(case, parameters),
    }
}

fn expected(case: &Case, parameters: &Parameters) -> yaml::Expected {
    let (subject, eval_time) = (case.subject, case.at);
    let exp_alerts = match (&case.expected, alert(subject)) {
        (&Value(value), _) => {
            let job = &parameters.job;
            let labels = format!("{subject}{{job=\"{job}\", instance=\"a:80\", app=\"shop\"}}");
            return yaml::Expected::PromqlExprTest([Evaluation {
                expr: subject,
                eval_time,
                exp_samples: [Sample { labels, value }],
            }]);
        }
        (Fires(labels, value), Some(alert)) => vec![firing(alert, labels, value, parameters)],
        _ => Vec::new(),
    };
    yaml::Expected::AlertRuleTest([Alerting {
        alertname: subject,
        eval_time,
        exp_alerts,
    }])
}

fn firing(
    alert: &Alert,
    labels: &[(&'static str, &str)],
    value: &str,
    parameters: &Parameters,
) -> Firing {
    let filled = |template| filled(template, labels, value, parameters);
    let severity = ("severity", alert.severity.label().to_owned());
    let labels = labels
        .iter()
        .map(|&(name, value)| (name, value.replace("$job", &parameters.job)));
    Firing {
        exp_labels: labels.chain([severity]).collect(),
        exp_annotations: Annotations {
            summary: filled(alert.summary),
            description: filled(alert.description),
            runbook_url: parameters.runbook_entry(alert.name),
        },
    }
}

fn alert(name: &str) -> Option<&'static Alert> {
    alerts().find(|alert| alert.name == name)
}

/// Returns whether a case's subject exists.
pub fn is_known(subject: &str) -> bool {
    alert(subject).is_some() || RECORDINGS.iter().any(|rule| rule.name == subject)
}

/// Fills in an annotation as Prometheus does. `{{ with $labels.name }} ... {{ . }} ... {{ end }}` is left out if the series
/// does not have the label.
fn filled(template: &str, labels: &[(&str, &str)], value: &str, parameters: &Parameters) -> String {
    let label = |name: &str| {
        let found = labels.iter().find(|(label, _)| *label == name);
        let value = found.map_or("", |(_, value)| value);
        value.replace("$job", &parameters.job)
    };
    let mut text = String::new();
    let mut with = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let Some((inside, after)) = after.split_once(" }}") else {
            break;
        };
        text += before;
        rest = after;
        if let Some(name) = inside.strip_prefix("with $labels.") {
            with = label(name);
            if with.is_empty() {
                rest = after.split_once("{{ end }}").map_or("", |(_, rest)| rest);
            }
        } else if let Some(name) = inside.strip_prefix("$labels.") {
            text += &label(name);
        } else {
            text += match inside {
                "." => &with,
                "end" => "",
                _ => value,
            };
        }
    }
    text + rest
}
