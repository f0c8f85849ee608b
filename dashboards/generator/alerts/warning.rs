//! Alerts to look at today.

use super::{Alert, Severity, limit};

pub(super) static WARNING: &[Alert] = &[
    Alert {
        name: "WsgiErrorBudgetBurnSlow",
        severity: Severity::Warning,
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
        severity: Severity::Warning,
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
        severity: Severity::Warning,
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
        severity: Severity::Warning,
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
        severity: Severity::Warning,
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
        severity: Severity::Warning,
        wait: "5m",
        expr: |p| format!("wsgi_oldest_request_age_seconds > {}", p.stuck),
        summary: "A request of {{ $labels.app }} on {{ $labels.instance }} has been running for {{ $value | humanizeDuration }}",
        description: "The oldest request of {{ $labels.app }} on {{ $labels.instance }} has been running for {{ $value | humanizeDuration }}. It holds a worker, and keeps its child from ending.",
        meaning: "A request does not come back. The application waits for a lock or for a service that does not answer; or it is meant to stream without end, and then this alert does not suit it.",
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
        severity: Severity::Warning,
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
        severity: Severity::Warning,
        wait: "0m",
        expr: |p| {
            format!(
                r#"sum by (job, instance, process_group) (increase(wsgi_children_exited_total{{how="killed"}}[15m])) > {}"#,
                p.killed
            )
        },
        summary: "{{ $value | humanize }} children of {{ $labels.instance }}{{ with $labels.process_group }}, process group {{ . }},{{ end }} were killed",
        description: "Within a quarter of an hour {{ $value | humanize }} children of {{ $labels.instance }}{{ with $labels.process_group }}, process group {{ . }},{{ end }} ended without a proper end, and with them the requests that they were serving.",
        meaning: "Children of httpd, or processes of a process group, crash, or the kernel or an administrator kills them.",
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
        severity: Severity::Warning,
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
];
