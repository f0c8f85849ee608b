//! Alerts to act on now: users are affected.

use super::{Alert, Severity, limit};

pub(super) static CRITICAL: &[Alert] = &[
    Alert {
        name: "WsgiMetricsAbsent",
        severity: Severity::Critical,
        wait: "5m",
        expr: |p| {
            format!(
                r#"up{{job="{0}"}} == 0 or absent(wsgi_build_info{{job="{0}"}})"#,
                p.job
            )
        },
        summary: "No metrics of mod_wsgi_rs from {{ $labels.job }} {{ $labels.instance }}",
        description: "Prometheus has got no metrics for five minutes: the server is down, does not answer, or answers without them.",
        meaning: "Prometheus cannot reach the metrics, or what answers is not mod_wsgi_rs. Until that is mended every other alert of the server is blind.",
        look: &[(
            "server",
            "Scrapes answered",
            "since when, and whether it is one server or all",
        )],
        steps: &[
            "Ask by hand: `curl -i http://SERVER/metrics`. No connection: httpd does not run, see its error log. 403: `Require` of that location does not allow Prometheus's address. 404: `SetHandler wsgi-metrics` is missing, or another module took the URL.",
            "It hangs: all workers are busy, see [WsgiMpmSaturated](#wsgimpmsaturated). `WSGIMetricsListen 127.0.0.1:9117` answers also then, from a process of its own; scrape that one.",
            "It answers, but without `wsgi_build_info`: the `LoadModule wsgi_module` line names another module.",
        ],
    },
    Alert {
        name: "WsgiErrorBudgetBurnFast",
        severity: Severity::Critical,
        wait: "2m",
        expr: |p| {
            let limit = limit(p.fast_burn, p.error_budget);
            format!(
                "job_app:wsgi_slo_errors:ratio_rate5m > {limit} and job_app:wsgi_slo_errors:ratio_rate1h > {limit}"
            )
        },
        summary: "{{ $labels.app }} fails {{ $value | humanizePercentage }} of its requests",
        description: "The application {{ $labels.app }} answered {{ $value | humanizePercentage }} of the requests of the last five minutes with 5xx or not at all, and the last hour is no better: the month's error budget will be gone in two days.",
        meaning: "So many requests fail, in the last five minutes and over the last hour, that users notice now.",
        look: &[
            (
                "overview",
                "Error ratio",
                "which application, and since when; a blue line is a new configuration",
            ),
            (
                "overview",
                "Failures of applications",
                "exceptions of the application",
            ),
            (
                "overview",
                "Refused, timed out, given up",
                "or refusals and time limits of the server",
            ),
            (
                "server",
                "Children started and ended",
                "or children that are killed in the middle of requests",
            ),
        ],
        steps: &[
            "Exceptions: the traceback is in the error log, with the request's path. Take back what was changed last; touching the script loads it again (`WSGIScriptReloading On`), and `apachectl graceful` does so for all.",
            "Refusals: see [WsgiRequestsRejected](#wsgirequestsrejected). Killed children: see [WsgiChildrenKilled](#wsgichildrenkilled).",
            "None of these: the application itself answers with 5xx, usually because something behind it (database, another service) is down. Its own log says.",
        ],
    },
    Alert {
        name: "WsgiApplicationLoadFailing",
        severity: Severity::Critical,
        wait: "5m",
        expr: |_| {
            r#"sum by (job, instance, app) (increase(wsgi_application_loads_total{result="error"}[10m])) > 0"#.into()
        },
        summary: "{{ $labels.app }} cannot be loaded on {{ $labels.instance }}",
        description: "Importing the script of {{ $labels.app }} has been failing on {{ $labels.instance }} for five minutes; its requests are answered with 500.",
        meaning: "Python raises an exception while it imports the application's script, so there is nothing to call. Every request tries again.",
        look: &[
            (
                "interpreters",
                "Loads of scripts by result",
                "whether all loads fail, or only those of some children",
            ),
            (
                "server",
                "Time since the configuration was loaded",
                "whether it began with a new configuration",
            ),
        ],
        steps: &[
            "The error log has the traceback. A missing module: `WSGIPythonHome` has to name the virtual environment, `WSGIPythonPath` the project's folder. A permission: the server's user (`User`, `Group`) has to be able to read the files and enter every folder above them.",
            "Try it as that user: `wsgictl serve /path/to/app.wsgi --python /path/to/venv`.",
            "An extension module that refuses sub-interpreters: `WSGIApplicationGroup %{GLOBAL}` for that application.",
        ],
    },
    Alert {
        name: "WsgiProcessGroupDown",
        severity: Severity::Critical,
        wait: "2m",
        expr: |_| {
            r#"sum by (job, instance, process_group) (wsgi_children{process_group!="", state="ready"}) == 0 and sum by (job, instance, process_group) (increase(wsgi_children_started_total{process_group!=""}[10m])) > 2"#.into()
        },
        summary: "Process group {{ $labels.process_group }} of {{ $labels.instance }} has no process that takes requests",
        description: "The processes of group {{ $labels.process_group }} on {{ $labels.instance }} have been ending before they were ready for two minutes; its requests are answered with 503.",
        meaning: "Every process of the group ends while it starts. The server starts another one, after longer and longer pauses.",
        look: &[
            (
                "server",
                "Children by state",
                "whether other groups and httpd's children are well",
            ),
            (
                "server",
                "Children started and ended",
                "since when its processes are killed or end",
            ),
        ],
        steps: &[
            "The error log of the server that defines the group says why, with messages 1150 and 1153: a `home=` that its user may not enter, a `python-home=` that is not there, a script that ends the process.",
            "Begun with a new configuration: take that back, or correct it; `apachectl graceful` tries again at once.",
        ],
    },
];
