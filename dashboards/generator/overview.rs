//! The dashboard to open first.

use crate::panel::{Dashboard, PANEL, Panel, Section, View, target};

/// Rates, failures, latency, and the parts of request time.
pub(crate) static OVERVIEW: Dashboard = Dashboard {
    name: "overview",
    title: "WSGI / Overview",
    description: "Is the service well, and if not, where does the time go? Begin here.",
    by_application: true,
    sections: &[
        Section {
            question: "Is the service well?",
            panels: WELL,
        },
        Section {
            question: "Where does the time go?",
            panels: TIME,
        },
        Section {
            question: "What goes wrong?",
            panels: WRONG,
        },
        Section {
            question: "How busy is it?",
            panels: BUSY,
        },
    ],
};

const WELL: &[Panel] = &[
    Panel {
        title: "Requests now",
        description: "Requests finished per second, over the chosen applications.",
        unit: "reqps",
        view: View::Number,
        width: 6,
        runbook: "WsgiMetricsAbsent",
        targets: &[target(
            "requests",
            "sum (rate(wsgi_requests_total{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Failed now",
        description: "Share of requests answered with 5xx or not answered at all. Red: the error budget is being used up fast.",
        unit: "percentunit",
        view: View::Number,
        width: 6,
        limit: Some(|p| p.fast_burn * p.error_budget),
        runbook: "WsgiErrorBudgetBurnFast",
        targets: &[target(
            "failed",
            r#"(sum (rate(wsgi_requests_total{$A, code=~"5xx|none"}[$R])) or 0 * sum (rate(wsgi_requests_total{$A}[$R]))) / sum (rate(wsgi_requests_total{$A}[$R]))"#,
        )],
        ..PANEL
    },
    Panel {
        title: "Slowest 1 % now",
        description: "One request in a hundred takes longer than this. Red: above the limit of the alert.",
        unit: "s",
        view: View::Number,
        width: 6,
        limit: Some(|p| p.latency),
        runbook: "WsgiLatencyHigh",
        targets: &[target(
            "p99",
            "histogram_quantile(0.99, sum by (le) (rate(wsgi_request_duration_seconds_bucket{$A}[$R])))",
        )],
        ..PANEL
    },
    Panel {
        title: "Oldest running request",
        description: "Age of the request that has been running longest. Red: it is stuck.",
        unit: "s",
        view: View::Number,
        width: 6,
        limit: Some(|p| p.stuck),
        runbook: "WsgiRequestStuck",
        targets: &[target("age", "max (wsgi_oldest_request_age_seconds{$A})")],
        ..PANEL
    },
    Panel {
        title: "Request rate",
        description: "Requests finished per second, by application.",
        unit: "reqps",
        runbook: "WsgiMetricsAbsent",
        targets: &[target(
            "{{app}}",
            "sum by (app) (rate(wsgi_requests_total{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Responses by class",
        description: "Requests finished per second, by the class of their status; none: no response was begun.",
        unit: "reqps",
        view: View::Stacked,
        runbook: "WsgiErrorBudgetBurnSlow",
        targets: &[target(
            "{{code}}",
            "sum by (code) (rate(wsgi_requests_total{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Error ratio",
        description: "Share of requests answered with 5xx or not answered at all. The dashed line is where the fast alert fires if it lasts.",
        unit: "percentunit",
        limit: Some(|p| p.fast_burn * p.error_budget),
        runbook: "WsgiErrorBudgetBurnFast",
        targets: &[target(
            "{{app}}",
            r#"(sum by (app) (rate(wsgi_requests_total{$A, code=~"5xx|none"}[$R])) or 0 * sum by (app) (rate(wsgi_requests_total{$A}[$R]))) / sum by (app) (rate(wsgi_requests_total{$A}[$R]))"#,
        )],
        ..PANEL
    },
    Panel {
        title: "Latency p50 / p95 / p99",
        description: "Half, 95 % and 99 % of requests are faster than these, from entering the module until the response was handed to Apache.",
        unit: "s",
        limit: Some(|p| p.latency),
        runbook: "WsgiLatencyHigh",
        targets: &[
            target(
                "{{app}} p50",
                "histogram_quantile(0.5, sum by (app, le) (rate(wsgi_request_duration_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p95",
                "histogram_quantile(0.95, sum by (app, le) (rate(wsgi_request_duration_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p99",
                "histogram_quantile(0.99, sum by (app, le) (rate(wsgi_request_duration_seconds_bucket{$A}[$R])))",
            ),
        ],
        ..PANEL
    },
];

const TIME: &[Panel] = &[
    Panel {
        title: "Where the time goes (mean per request)",
        description: "Mean time of a request in each phase. The highest line says where to look next: the Interpreters dashboard for Python and the GIL, the application itself, or slow clients.",
        unit: "s",
        width: 24,
        runbook: "WsgiLatencyHigh",
        targets: &[
            target(
                "before Python",
                "sum (rate(wsgi_queue_wait_seconds_sum{$A}[$R])) / sum (rate(wsgi_requests_total{$A}[$R]))",
            ),
            target(
                "waiting for the GIL",
                "sum (rate(wsgi_gil_wait_seconds_sum{$A}[$R])) / sum (rate(wsgi_requests_total{$A}[$R]))",
            ),
            target(
                "in the application",
                "sum (rate(wsgi_application_duration_seconds_sum{$A}[$R])) / sum (rate(wsgi_requests_total{$A}[$R]))",
            ),
            target(
                "reading the request's body",
                "sum (rate(wsgi_input_read_seconds_total{$A}[$R])) / sum (rate(wsgi_requests_total{$A}[$R]))",
            ),
            target(
                "writing the response",
                "sum (rate(wsgi_output_write_seconds_total{$A}[$R])) / sum (rate(wsgi_requests_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Latency heatmap",
        description: "How many requests took how long: darker is more. Two bands are two kinds of requests, or a wait that only some meet.",
        unit: "s",
        view: View::Heatmap,
        runbook: "WsgiLatencyHigh",
        targets: &[target(
            "{{le}}",
            "sum by (le) (increase(wsgi_request_duration_seconds_bucket{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Time to first byte p50 / p95 / p99",
        description: "Time until the first byte of the body was handed to Apache. Far below the latency: the application streams.",
        unit: "s",
        runbook: "WsgiLatencyHigh",
        targets: &[
            target(
                "{{app}} p50",
                "histogram_quantile(0.5, sum by (app, le) (rate(wsgi_time_to_first_byte_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p95",
                "histogram_quantile(0.95, sum by (app, le) (rate(wsgi_time_to_first_byte_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p99",
                "histogram_quantile(0.99, sum by (app, le) (rate(wsgi_time_to_first_byte_seconds_bucket{$A}[$R])))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Apdex (0.5 s / 2.5 s)",
        description: "Satisfied users: 100 % when every request succeeds within 0.5 s; up to 2.5 s counts half, slower or failed counts nothing.",
        unit: "percentunit",
        runbook: "WsgiLatencyHigh",
        targets: &[target(
            "{{app}}",
            r#"(sum by (app) (rate(wsgi_request_duration_seconds_bucket{$A, le="0.5", code!="5xx"}[$R])) + sum by (app) (rate(wsgi_request_duration_seconds_bucket{$A, le="2.5", code!="5xx"}[$R]))) / 2 / sum by (app) (rate(wsgi_request_duration_seconds_count{$A}[$R]))"#,
        )],
        ..PANEL
    },
    Panel {
        title: "Body bytes in and out",
        description: "Bytes of request bodies that applications read, and of response bodies that they made.",
        unit: "Bps",
        targets: &[
            target(
                "{{app}} in",
                "sum by (app) (rate(wsgi_request_body_bytes_total{$A}[$R]))",
            ),
            target(
                "{{app}} out",
                "sum by (app) (rate(wsgi_response_body_bytes_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
];

const WRONG: &[Panel] = &[
    Panel {
        title: "Failures of applications",
        description: "Uncaught exceptions, by where they were raised, and responses that broke the protocol. Each has a traceback or a line in the error log.",
        unit: "reqps",
        runbook: "WsgiErrorBudgetBurnFast",
        targets: &[
            target(
                "{{app}} exception ({{phase}})",
                "sum by (app, phase) (rate(wsgi_exceptions_total{$A}[$R]))",
            ),
            target(
                "{{app}} protocol",
                "sum by (app) (rate(wsgi_protocol_errors_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Refused, timed out, given up",
        description: "Requests that the server refused, that ran into a limit of time, or that the client gave up.",
        unit: "reqps",
        runbook: "WsgiRequestsRejected",
        targets: &[
            target(
                "{{app}} refused ({{reason}})",
                "sum by (app, reason) (rate(wsgi_requests_rejected_total{$A}[$R]))",
            ),
            target(
                "{{app}} timed out ({{stage}})",
                "sum by (app, stage) (rate(wsgi_request_timeouts_total{$A}[$R]))",
            ),
            target(
                "{{app}} client left ({{phase}})",
                "sum by (app, phase) (rate(wsgi_client_aborts_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Slow requests",
        description: "Requests slower than WSGISlowRequests says; the status page lists the last of them.",
        unit: "reqps",
        runbook: "WsgiLatencyHigh",
        targets: &[target(
            "{{app}}",
            "sum by (app) (rate(wsgi_slow_requests_total{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Log lines",
        description: "Lines per second that applications wrote to wsgi.errors, stderr and stdout. A step up tells when trouble began.",
        unit: "cps",
        runbook: "WsgiErrorBudgetBurnSlow",
        targets: &[target(
            "{{app}} {{stream}}",
            "sum by (app, stream) (rate(wsgi_log_lines_total{$A}[$R]))",
        )],
        ..PANEL
    },
];

const BUSY: &[Panel] = &[
    Panel {
        title: "Requests in flight",
        description: "Requests inside the module at the moment of the scrape, by application.",
        view: View::Stacked,
        runbook: "WsgiMpmSaturated",
        targets: &[target(
            "{{app}}",
            "sum by (app) (wsgi_requests_in_flight{$A})",
        )],
        ..PANEL
    },
    Panel {
        title: "Oldest running request by application",
        description: "Age of each application's oldest request. A slope that goes up without end is a request that never returns.",
        unit: "s",
        limit: Some(|p| p.stuck),
        runbook: "WsgiRequestStuck",
        targets: &[target(
            "{{app}}",
            "max by (app) (wsgi_oldest_request_age_seconds{$A})",
        )],
        ..PANEL
    },
];
