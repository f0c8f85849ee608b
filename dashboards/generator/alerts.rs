//! The alerts, each with its entry in the runbook.

use crate::parameters::Parameters;

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Now: users are hurt.
    Critical,
    /// Today.
    Warning,
    /// When there is time.
    Info,
}

impl Severity {
    /// The value of the label.
    pub const fn label(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One alert.
#[derive(Debug)]
pub struct Alert {
    /// Its name, which is also its heading in the runbook.
    pub name: &'static str,
    /// How soon somebody should look.
    pub severity: Severity,
    /// How long the expression has to hold, as Prometheus writes it.
    pub wait: &'static str,
    /// PromQL.
    pub expr: fn(&Parameters) -> String,
    /// One line, with Prometheus's templates.
    pub summary: &'static str,
    /// One or two sentences, with Prometheus's templates.
    pub description: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Which panels to look at, as dashboard and title, with what to look for.
    pub look: &'static [(&'static str, &'static str, &'static str)],
    /// What to do.
    pub steps: &'static [&'static str],
}

use Severity::{Critical, Info, Warning};

/// The alerts, the most urgent first.
pub static ALERTS: &[Alert] = &[
    Alert {
        name: "WsgiMetricsAbsent",
        severity: Critical,
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
        severity: Critical,
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
        severity: Critical,
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
        name: "WsgiErrorBudgetBurnSlow",
        severity: Warning,
        wait: "15m",
        expr: |p| {
            let limit = limit(p.slow_burn, p.error_budget);
            format!(
                "job_app:wsgi_slo_errors:ratio_rate30m > {limit} and job_app:wsgi_slo_errors:ratio_rate6h > {limit}"
            )
        },
        summary: "{{ $labels.app }} keeps failing {{ $value | humanizePercentage }} of its requests",
        description: "The application {{ $labels.app }} has been failing {{ $value | humanizePercentage }} of its requests, over half an hour and over six: the month's error budget will be gone in five days.",
        meaning: "A small share of requests fails, for hours. Often one URL, one server of several, or something that runs on a schedule.",
        look: &[
            (
                "overview",
                "Responses by class",
                "whether 5xx are even or come in bursts",
            ),
            (
                "overview",
                "Log lines",
                "whether the application began to write more",
            ),
        ],
        steps: &[
            "Group the 5xx of the access log by path and by server: `awk '$9 ~ /^5/ {print $7}' access_log | sort | uniq -c | sort -rn | head`.",
            "Then as for [WsgiErrorBudgetBurnFast](#wsgierrorbudgetburnfast), without the hurry.",
        ],
    },
    Alert {
        name: "WsgiLatencyHigh",
        severity: Warning,
        wait: "10m",
        expr: |p| {
            format!(
                "job_instance_app:wsgi_request_duration_seconds:p99_5m > {} and job_instance_app:wsgi_requests:rate5m > {}",
                p.latency, p.latency_rate
            )
        },
        summary: "The slowest 1 % of {{ $labels.app }} on {{ $labels.instance }} take over {{ $value | humanizeDuration }}",
        description: "One request in a hundred of {{ $labels.app }} on {{ $labels.instance }} takes longer than {{ $value | humanizeDuration }}.",
        meaning: "Some requests are slow. Which phase of theirs is slow decides what helps.",
        look: &[
            (
                "overview",
                "Where the time goes (mean per request)",
                "the highest line",
            ),
            (
                "overview",
                "Latency heatmap",
                "two bands: two kinds of requests; a cloud: waiting for something shared",
            ),
            (
                "overview",
                "Slow requests",
                "and the list of them on the status page",
            ),
        ],
        steps: &[
            "In the application: `WSGISlowRequests 2` has the status page list requests that took over two seconds, with their URL; profile those views.",
            "Waiting for the GIL: see [WsgiGilContention](#wsgigilcontention). Before Python: see [WsgiQueueWaitHigh](#wsgiqueuewaithigh).",
            "Reading or writing: clients are slow, or play slow. `RequestReadTimeout` (mod_reqtimeout) and `Timeout` bound them; a proxy in front that buffers takes them off the workers.",
        ],
    },
    Alert {
        name: "WsgiMpmSaturated",
        severity: Warning,
        wait: "10m",
        expr: |p| {
            format!(
                r#"1 - sum by (job, instance) (wsgi_mpm_workers{{state=~"idle|open_slot"}}) / sum by (job, instance) (wsgi_mpm_workers) > {}"#,
                p.saturation
            )
        },
        summary: "{{ $value | humanizePercentage }} of Apache's workers on {{ $labels.instance }} are busy",
        description: "Of the workers that {{ $labels.instance }} may run, {{ $value | humanizePercentage }} have been busy for ten minutes. When none is left, new connections wait where no metric sees them.",
        meaning: "httpd runs out of workers: either there are more requests than before, or each takes longer.",
        look: &[
            (
                "server",
                "Apache workers by state",
                "writing: requests; keepalive: idle clients; reading: slow clients",
            ),
            ("overview", "Request rate", "more requests?"),
            ("overview", "Latency p50 / p95 / p99", "or slower ones?"),
        ],
        steps: &[
            "Slower requests: see [WsgiLatencyHigh](#wsgilatencyhigh); more workers would only hide it.",
            "More requests, with CPU to spare: raise `MaxRequestWorkers`, and with it `ServerLimit` (it has to be at least `MaxRequestWorkers` divided by `ThreadsPerChild`). `ServerLimit` needs a full restart. Watch the memory: every child holds the applications.",
            "Many in keepalive: lower `KeepAliveTimeout`, or use `mpm_event`, which needs no worker for idle connections.",
        ],
    },
    Alert {
        name: "WsgiQueueWaitHigh",
        severity: Warning,
        wait: "10m",
        expr: |p| {
            format!(
                "histogram_quantile(0.95, sum by (job, instance, app, le) (rate(wsgi_queue_wait_seconds_bucket[5m]))) > {}",
                p.queue_wait
            )
        },
        summary: "Requests of {{ $labels.app }} on {{ $labels.instance }} wait {{ $value | humanizeDuration }} before they come to Python",
        description: "One request in twenty of {{ $labels.app }} on {{ $labels.instance }} spends over {{ $value | humanizeDuration }} in the module before it gets as far as asking for Python.",
        meaning: "Requests lose time in the module before they come to Python. On a server that is well that is a fraction of a millisecond; it grows when interpreters are still being made, or when the machine has no CPU left.",
        look: &[
            (
                "interpreters",
                "Wait before Python p50 / p95 / p99",
                "whether all applications wait, or one",
            ),
            (
                "interpreters",
                "Starts, stops and reloads",
                "whether interpreters are being started all the time",
            ),
            ("server", "CPU (cores)", "whether all cores are in use"),
        ],
        steps: &[
            "Interpreters start all the time: see [WsgiInterpreterRestartLoop](#wsgiinterpreterrestartloop). After a restart only: `WSGIImportScript` loads the application when a child starts, ahead of its first request, and higher `StartServers` and `MinSpareThreads` (prefork: `MinSpareServers`) have children ready.",
            "No CPU left: fewer workers do more; lower `MaxRequestWorkers` towards what the cores can serve, or add machines.",
        ],
    },
    Alert {
        name: "WsgiRequestsRejected",
        severity: Warning,
        wait: "5m",
        expr: |_| {
            r#"sum by (job, instance, app, reason) (rate(wsgi_requests_rejected_total{reason!="draining"}[5m])) > 0"#.into()
        },
        summary: "Requests of {{ $labels.app }} on {{ $labels.instance }} are refused: {{ $labels.reason }}",
        description: "The module has been refusing {{ $value | humanize }} requests per second of {{ $labels.app }} on {{ $labels.instance }} without calling the application; the reason is {{ $labels.reason }}.",
        meaning: "The module turned requests away. `not_loaded`: the application could not be loaded. `body_too_large`: the request's body is larger than allowed. `queue_full`, `queue_timeout`: too many wait already. (`draining`, in a child that ends, is not counted here.)",
        look: &[(
            "overview",
            "Refused, timed out, given up",
            "the reason, and which application",
        )],
        steps: &[
            "`not_loaded`: see [WsgiApplicationLoadFailing](#wsgiapplicationloadfailing).",
            "`body_too_large`: someone uploads more than `LimitRequestBody` allows. Raise it for that location if the upload is legitimate.",
            "`queue_full`, `queue_timeout`: see [WsgiMpmSaturated](#wsgimpmsaturated).",
        ],
    },
    Alert {
        name: "WsgiRequestStuck",
        severity: Warning,
        wait: "5m",
        expr: |p| format!("wsgi_oldest_request_age_seconds > {}", p.stuck),
        summary: "A request of {{ $labels.app }} on {{ $labels.instance }} has been running for {{ $value | humanizeDuration }}",
        description: "The oldest request of {{ $labels.app }} on {{ $labels.instance }} has been running for {{ $value | humanizeDuration }}. It holds a worker, and keeps its child from ending.",
        meaning: "A request does not come back. The application waits for a lock or for a service that does not answer; or it is meant to stream for ever, and then this alert does not suit it.",
        look: &[
            (
                "overview",
                "Oldest running request by application",
                "a straight slope: it is always the same request",
            ),
            (
                "overview",
                "Requests in flight",
                "growing: more and more get stuck",
            ),
        ],
        steps: &[
            "`/wsgi-status` names its URL, process and thread; `py-spy dump --pid PID` shows where its Python stands.",
            "Give every call to something outside a time limit in the application.",
            "Kill that child (`kill PID`, after some time `kill -9 PID`): httpd starts another, and the numbers stay right.",
            "`GracefulShutdownTimeout` bounds how long a restart waits for such requests.",
        ],
    },
    Alert {
        name: "WsgiGilContention",
        severity: Warning,
        wait: "15m",
        expr: |p| {
            format!(
                "sum by (job, instance, app) (rate(wsgi_gil_wait_seconds_sum[5m])) / sum by (job, instance, app) (rate(wsgi_request_duration_seconds_sum[5m])) > {}",
                p.gil_share
            )
        },
        summary: "{{ $labels.app }} on {{ $labels.instance }} spends {{ $value | humanizePercentage }} of its time waiting for the GIL",
        description: "Requests of {{ $labels.app }} on {{ $labels.instance }} have spent {{ $value | humanizePercentage }} of their time waiting for the GIL: too many threads of a child want to run Python at once.",
        meaning: "Requests spend a good part of their time waiting for a turn to run Python. The threads of a child take turns, and here they compute too much for that.",
        look: &[
            (
                "interpreters",
                "GIL use per child",
                "near 100 %: a child can do no more",
            ),
            (
                "interpreters",
                "GIL wait p50 / p95 / p99",
                "around 5 ms: something computes without pause",
            ),
            (
                "interpreters",
                "Python threads",
                "more than workers: threads that the application started itself",
            ),
        ],
        steps: &[
            "More children with fewer threads: lower `ThreadsPerChild` and raise `ServerLimit` with it, so that `MaxRequestWorkers` stays; as many children as cores is a good start.",
            "Computation in a thread of the application's own belongs into another process.",
            "If short requests suffer beside long computations, a lower `WSGISwitchInterval` (0.001) hands the GIL over sooner, at some cost.",
        ],
    },
    Alert {
        name: "WsgiChildrenKilled",
        severity: Warning,
        wait: "0m",
        expr: |p| {
            format!(
                r#"sum by (job, instance) (increase(wsgi_children_exited_total{{how="killed"}}[15m])) > {}"#,
                p.killed
            )
        },
        summary: "{{ $value | humanize }} children of {{ $labels.instance }} were killed",
        description: "Within a quarter of an hour {{ $value | humanize }} children of {{ $labels.instance }} ended without a proper end, and with them the requests that they were serving.",
        meaning: "Children crash, or the kernel or somebody kills them.",
        look: &[
            (
                "server",
                "Children started and ended",
                "single ones, or all at once",
            ),
            (
                "server",
                "Resident memory of the largest child",
                "growth before each kill: the machine ran out of memory",
            ),
        ],
        steps: &[
            "The error log names the signal. `Killed (9)` and a line of the OOM killer in `dmesg`: see [WsgiMemoryGrowth](#wsgimemorygrowth), or lower `MaxRequestWorkers`.",
            "`Segmentation fault (11)`: nearly always an extension module. `CoreDumpDirectory` gets a core file; `PYTHONFAULTHANDLER=1` in httpd's environment writes the Python traceback to the error log. An extension that refuses or dislikes sub-interpreters wants `WSGIApplicationGroup %{GLOBAL}`.",
            "After each restart only: children were not done before the time was up. Requests run long, see [WsgiRequestStuck](#wsgirequeststuck).",
        ],
    },
    Alert {
        name: "WsgiInterpreterRestartLoop",
        severity: Warning,
        wait: "0m",
        expr: |p| {
            format!(
                "sum by (job, instance, app) (increase(wsgi_interpreter_starts_total[15m])) > on (job, instance) group_left () {} * max by (job, instance) (wsgi_mpm_children_limit)",
                p.restarts
            )
        },
        summary: "Interpreters of {{ $labels.app }} on {{ $labels.instance }} are started over and over",
        description: "Within a quarter of an hour {{ $value | humanize }} interpreters of {{ $labels.app }} were started on {{ $labels.instance }}, several times as many as there can be children.",
        meaning: "Interpreters do not live long, and every start loads the application again.",
        look: &[
            (
                "interpreters",
                "Starts, stops and reloads",
                "the reason: reload, child_exit, error",
            ),
            (
                "interpreters",
                "Age of the newest interpreter",
                "how long it lasts until the next start",
            ),
            (
                "server",
                "Children started and ended",
                "whether it is whole children that come and go",
            ),
        ],
        steps: &[
            "Children come and go, all clean: `MaxConnectionsPerChild` is too low, or `MaxSpareThreads` (prefork: `MaxSpareServers`) so near to `MinSpareThreads` that httpd keeps starting and stopping. Killed: see [WsgiChildrenKilled](#wsgichildrenkilled).",
            "Reloads: something keeps touching the script; `WSGIScriptReloading Off` until that is found.",
            "Errors: the error log has the traceback; see [WsgiApplicationLoadFailing](#wsgiapplicationloadfailing).",
        ],
    },
    Alert {
        name: "WsgiMemoryGrowth",
        severity: Info,
        wait: "1h",
        expr: |p| {
            format!(
                "deriv(wsgi_child_resident_memory_max_bytes[6h]) > 0 and predict_linear(wsgi_child_resident_memory_max_bytes[6h], 86400) > {} * wsgi_child_resident_memory_max_bytes",
                p.growth
            )
        },
        summary: "The largest child of {{ $labels.instance }} keeps growing",
        description: "The memory of the largest child of {{ $labels.instance }} has been growing for six hours, by {{ $value | humanize1024 }}B per second; within a day it would be several times what it is.",
        meaning: "An application keeps more and more in memory: a leak, or a cache without a bound.",
        look: &[
            (
                "server",
                "Resident memory of the largest child",
                "steps: single requests; a slope: all of them",
            ),
            (
                "interpreters",
                "Allocated blocks",
                "grows too: Python objects; does not: an extension module",
            ),
            (
                "interpreters",
                "Objects collected and uncollectable",
                "uncollectable objects never leave",
            ),
        ],
        steps: &[
            "`MaxConnectionsPerChild 10000` replaces children before they are too large: it buys time.",
            "Find it: `tracemalloc` in one child shows which lines allocate what stays.",
        ],
    },
    Alert {
        name: "WsgiGcPauseLong",
        severity: Info,
        wait: "15m",
        expr: |p| {
            format!(
                r#"histogram_quantile(0.99, sum by (job, instance, app, le) (rate(wsgi_python_gc_pause_seconds_bucket{{generation="2"}}[15m]))) > {}"#,
                p.gc_pause
            )
        },
        summary: "Garbage collections of {{ $labels.app }} on {{ $labels.instance }} take {{ $value | humanizeDuration }}",
        description: "Full garbage collections of {{ $labels.app }} on {{ $labels.instance }} stop its interpreter for up to {{ $value | humanizeDuration }}.",
        meaning: "Garbage collection stops an interpreter long enough to be felt. A full collection looks at every object, and there are many; all requests of that interpreter wait meanwhile.",
        look: &[
            (
                "interpreters",
                "Garbage collection pause p99",
                "which generation",
            ),
            (
                "interpreters",
                "Share of time in garbage collection",
                "whether it matters at all",
            ),
            (
                "interpreters",
                "Allocated blocks",
                "whether the number of objects grows",
            ),
        ],
        steps: &[
            "In the script, after the application is loaded: `gc.collect(); gc.freeze()` takes what is there for good out of every collection.",
            "Then `gc.set_threshold(50_000, 20, 100)` makes full collections rarer.",
            "Objects keep growing in number: see [WsgiMemoryGrowth](#wsgimemorygrowth).",
        ],
    },
    Alert {
        name: "WsgiMetricsOverflow",
        severity: Info,
        wait: "0m",
        expr: |_| {
            "sum by (job, instance, kind) (increase(wsgi_metrics_overflows_total[1h])) > 0".into()
        },
        summary: "The metrics of {{ $labels.instance }} have no room for another {{ $labels.kind }}",
        description: "Within an hour {{ $value | humanize }} registrations ({{ $labels.kind }}) on {{ $labels.instance }} found no room; what they count appears under _other. Totals are right.",
        meaning: "A table of the shared segment is full. `application`: more application groups than there is room for. `series`: an application makes too many label values. `arena`: more threads than expected count at once, which costs a little time and nothing else.",
        look: &[
            ("server", "Overflows", "which table"),
            ("server", "Use of the metrics' tables", "how full they are"),
        ],
        steps: &[
            "`application`: `WSGIApplicationGroup` with `%{HOST}` or `%{ENV:...}` makes as many groups as clients can think of; name them instead.",
            "`series`: look at the labels that the application passes to `mod_wsgi.counter` and its like; user names, ids and URLs do not belong there.",
            "`arena`: many draining children after quick restarts; it passes.",
        ],
    },
];

/// A multiple of the error budget, as PromQL that shows where it comes from.
fn limit(burn: f64, budget: f64) -> String {
    format!("{burn} * {budget}")
}
