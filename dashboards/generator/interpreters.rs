//! The dashboard of Python: capacity, the GIL, interpreters, garbage collection.

use crate::panel::{Dashboard, PANEL, Panel, Section, View, target};

/// The path of requests between the module and Python.
pub(crate) static INTERPRETERS: Dashboard = Dashboard {
    name: "interpreters",
    title: "WSGI / Interpreters and GIL",
    description: "Does Python have room, does the GIL stand in the way, do interpreters stay alive, what does garbage collection cost?",
    by_application: true,
    sections: &[
        Section {
            question: "Is there room for more requests?",
            panels: ROOM,
        },
        Section {
            question: "Does the GIL stand in the way?",
            panels: GIL,
        },
        Section {
            question: "Do interpreters stay alive?",
            panels: LIFE,
        },
        Section {
            question: "What do memory and garbage collection cost?",
            panels: MEMORY,
        },
    ],
};

const ROOM: &[Panel] = &[
    Panel {
        title: "Requests in flight of what Apache may run",
        description: "Requests inside the module at the moment of the scrape, as a share of MaxRequestWorkers.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiMpmSaturated",
        targets: &[target(
            "{{instance}}",
            "sum by (instance) (wsgi_requests_in_flight{$A}) / sum by (instance) (wsgi_mpm_workers_limit{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Capacity used (busy time)",
        description: "Time spent on requests as a share of the time that MaxRequestWorkers workers have: steadier than a look at the moment.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiMpmSaturated",
        targets: &[target(
            "{{instance}}",
            "sum by (instance) (rate(wsgi_request_duration_seconds_sum{$A}[$R])) / sum by (instance) (wsgi_mpm_workers_limit{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Wait before Python p50 / p95 / p99",
        description: "Time from entering the module until a request began to wait for Python's lock.",
        unit: "s",
        width: 8,
        limit: Some(|p| p.queue_wait),
        runbook: "WsgiQueueWaitHigh",
        targets: &[
            target(
                "{{app}} p50",
                "histogram_quantile(0.5, sum by (app, le) (rate(wsgi_queue_wait_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p95",
                "histogram_quantile(0.95, sum by (app, le) (rate(wsgi_queue_wait_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p99",
                "histogram_quantile(0.99, sum by (app, le) (rate(wsgi_queue_wait_seconds_bucket{$A}[$R])))",
            ),
        ],
        ..PANEL
    },
];

const GIL: &[Panel] = &[
    Panel {
        title: "GIL wait p50 / p95 / p99",
        description: "How long the module waited each time it asked for the GIL. Around 5 ms: another thread computes without pause.",
        unit: "s",
        width: 8,
        runbook: "WsgiGilContention",
        targets: &[
            target(
                "{{app}} p50",
                "histogram_quantile(0.5, sum by (app, le) (rate(wsgi_gil_wait_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p95",
                "histogram_quantile(0.95, sum by (app, le) (rate(wsgi_gil_wait_seconds_bucket{$A}[$R])))",
            ),
            target(
                "{{app}} p99",
                "histogram_quantile(0.99, sum by (app, le) (rate(wsgi_gil_wait_seconds_bucket{$A}[$R])))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "GIL wait as a share of request time",
        description: "How much of the time of requests goes into waiting for the GIL. The dashed line is where the alert fires if it lasts.",
        unit: "percentunit",
        width: 8,
        limit: Some(|p| p.gil_share),
        runbook: "WsgiGilContention",
        targets: &[target(
            "{{app}}",
            "sum by (app) (rate(wsgi_gil_wait_seconds_sum{$A}[$R])) / sum by (app) (rate(wsgi_request_duration_seconds_sum{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "GIL use per child",
        description: "Share of the time that one child's GIL was held for requests, at most: it is also given up inside, for I/O. Near 100 %, only more children help.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiGilContention",
        targets: &[target(
            "{{app}}",
            "sum by (app) (rate(wsgi_gil_held_seconds_sum{$A}[$R])) / on () group_left () sum (wsgi_children{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Share of GIL acquisitions that waited over 0.1 ms",
        description: "How often the GIL was not simply free.",
        unit: "percentunit",
        runbook: "WsgiGilContention",
        targets: &[target(
            "{{app}}",
            r#"1 - sum by (app) (rate(wsgi_gil_wait_seconds_bucket{$A, le="0.0001"}[$R])) / sum by (app) (rate(wsgi_gil_wait_seconds_count{$A}[$R]))"#,
        )],
        ..PANEL
    },
    Panel {
        title: "GIL hand-over success per switch interval",
        description: "Of the threads that waited one switch interval (5 ms), the share that got the GIL then and did not wait for a second one. Low: many threads compete.",
        unit: "percentunit",
        runbook: "WsgiGilContention",
        targets: &[target(
            "{{app}}",
            r#"1 - (sum by (app) (rate(wsgi_gil_wait_seconds_bucket{$A, le="0.014"}[$R])) - sum by (app) (rate(wsgi_gil_wait_seconds_bucket{$A, le="0.009"}[$R]))) / (sum by (app) (rate(wsgi_gil_wait_seconds_bucket{$A, le="0.009"}[$R])) - sum by (app) (rate(wsgi_gil_wait_seconds_bucket{$A, le="0.004"}[$R])))"#,
        )],
        ..PANEL
    },
];

const LIFE: &[Panel] = &[
    Panel {
        title: "Interpreters by state",
        description: "Interpreters that hold each application, over all children.",
        view: View::Stacked,
        width: 8,
        runbook: "WsgiInterpreterRestartLoop",
        targets: &[target(
            "{{app}} {{state}}",
            "sum by (app, state) (wsgi_interpreters{$A})",
        )],
        ..PANEL
    },
    Panel {
        title: "Age of the newest interpreter",
        description: "A line that keeps falling back to zero: interpreters are started again and again.",
        unit: "s",
        width: 8,
        runbook: "WsgiInterpreterRestartLoop",
        targets: &[target(
            "{{app}}",
            "time() - max by (app) (wsgi_interpreter_newest_start_timestamp_seconds{$A})",
        )],
        ..PANEL
    },
    Panel {
        title: "Age of the oldest interpreter",
        description: "How long an interpreter may live. It falls when the last of an old generation has ended.",
        unit: "s",
        width: 8,
        runbook: "WsgiInterpreterRestartLoop",
        targets: &[target(
            "{{app}}",
            "time() - min by (app) (wsgi_interpreter_oldest_start_timestamp_seconds{$A})",
        )],
        ..PANEL
    },
    Panel {
        title: "Starts, stops and reloads",
        description: "Interpreters started and stopped, and reloads of scripts, within the interval of a point (an estimate: one may show as 1.1).",
        width: 8,
        runbook: "WsgiInterpreterRestartLoop",
        targets: &[
            target(
                "{{app}} started",
                "sum by (app) (increase(wsgi_interpreter_starts_total{$A}[$R]))",
            ),
            target(
                "{{app}} stopped ({{reason}})",
                "sum by (app, reason) (increase(wsgi_interpreter_stops_total{$A}[$R]))",
            ),
            target(
                "{{app}} reloaded ({{trigger}})",
                "sum by (app, trigger) (increase(wsgi_application_reloads_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Loads of scripts by result",
        description: "Imports of application scripts within the interval of a point. A failed one has its traceback in the error log.",
        width: 8,
        runbook: "WsgiApplicationLoadFailing",
        targets: &[target(
            "{{app}} {{result}}",
            "sum by (app, result) (increase(wsgi_application_loads_total{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Application load time p95",
        description: "How long importing an application takes: what the first request of a new child waits for. Gaps: nothing was loaded.",
        unit: "s",
        width: 8,
        runbook: "WsgiApplicationLoadFailing",
        targets: &[target(
            "{{app}}",
            "histogram_quantile(0.95, sum by (app, le) (rate(wsgi_application_load_seconds_bucket{$A}[$R])))",
        )],
        ..PANEL
    },
    Panel {
        title: "Applications",
        description: "The applications, where they are mounted, and which interpreter runs them.",
        unit: "none",
        view: View::Table,
        width: 24,
        runbook: "WsgiApplicationLoadFailing",
        targets: &[target(
            "",
            "max by (instance, app, mount, script, interpreter) (wsgi_application_info{$A})",
        )],
        ..PANEL
    },
];

const MEMORY: &[Panel] = &[
    Panel {
        title: "Garbage collections",
        description: "Cyclic garbage collections per second, by generation; generation 2 looks at all objects.",
        unit: "ops",
        width: 8,
        runbook: "WsgiGcPauseLong",
        targets: &[target(
            "{{app}} generation {{generation}}",
            "sum by (app, generation) (rate(wsgi_python_gc_pause_seconds_count{$A}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Garbage collection pause p99",
        description: "The longest hundredth of collections; while one runs, no other thread of that interpreter runs Python.",
        unit: "s",
        width: 8,
        limit: Some(|p| p.gc_pause),
        runbook: "WsgiGcPauseLong",
        targets: &[target(
            "{{app}} generation {{generation}}",
            "histogram_quantile(0.99, sum by (app, generation, le) (rate(wsgi_python_gc_pause_seconds_bucket{$A}[$R])))",
        )],
        ..PANEL
    },
    Panel {
        title: "Share of time in garbage collection",
        description: "Share of the time that a child spends collecting, on average over the children.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiGcPauseLong",
        targets: &[target(
            "{{app}}",
            "sum by (app) (rate(wsgi_python_gc_pause_seconds_sum{$A}[$R])) / on () group_left () sum (wsgi_children{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Objects collected and uncollectable",
        description: "Objects in reference cycles that were freed, and those that could not be: the latter stay until the child ends.",
        unit: "ops",
        width: 8,
        runbook: "WsgiMemoryGrowth",
        targets: &[
            target(
                "{{app}} generation {{generation}} freed",
                "sum by (app, generation) (rate(wsgi_python_gc_collected_objects_total{$A}[$R]))",
            ),
            target(
                "{{app}} generation {{generation}} left",
                "sum by (app, generation) (rate(wsgi_python_gc_uncollectable_objects_total{$A}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Allocated blocks",
        description: "Memory blocks that Python's allocator holds. Growing for hours under even load: the application leaks objects.",
        width: 8,
        runbook: "WsgiMemoryGrowth",
        targets: &[target(
            "{{app}}",
            "sum by (app) (wsgi_python_allocated_blocks{$A})",
        )],
        ..PANEL
    },
    Panel {
        title: "Python threads",
        description: "Threads that Python knows in all children: those of requests, and those that applications started themselves.",
        width: 8,
        runbook: "WsgiGilContention",
        targets: &[target("{{app}}", "sum by (app) (wsgi_python_threads{$A})")],
        ..PANEL
    },
];
