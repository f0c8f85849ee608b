//! The dashboard of httpd: children, workers, limits, and the metrics themselves.

use crate::panel::{Dashboard, PANEL, Panel, Section, View, target};

/// The processes and limits of httpd.
pub(crate) static SERVER: Dashboard = Dashboard {
    name: "server",
    title: "WSGI / Server and MPM",
    description: "Are there enough children and workers, what do they cost, what is running, and can these numbers be trusted?",
    by_application: false,
    sections: &[
        Section {
            question: "Are there enough children and workers?",
            panels: WORKERS,
        },
        Section {
            question: "What do they cost?",
            panels: COST,
        },
        Section {
            question: "What is running?",
            panels: RUNNING,
        },
        Section {
            question: "Can these numbers be trusted?",
            panels: METRICS,
        },
    ],
};

const WORKERS: &[Panel] = &[
    Panel {
        title: "Apache workers by state",
        description: "The scoreboard: what each worker is doing; open_slot is a worker that could still be started.",
        view: View::Stacked,
        runbook: "WsgiMpmSaturated",
        targets: &[target("{{state}}", "sum by (state) (wsgi_mpm_workers{$S})")],
        ..PANEL
    },
    Panel {
        title: "Worker use",
        description: "Share of workers that are neither idle nor still to be started. At 100 % requests wait in the kernel, unseen.",
        unit: "percentunit",
        limit: Some(|p| p.saturation),
        runbook: "WsgiMpmSaturated",
        targets: &[target(
            "{{instance}}",
            r#"1 - sum by (instance) (wsgi_mpm_workers{$S, state=~"idle|open_slot"}) / sum by (instance) (wsgi_mpm_workers{$S})"#,
        )],
        ..PANEL
    },
    Panel {
        title: "Children by state",
        description: "Children of httpd, and processes of each process group, that are alive. Draining: they finish what they have and end.",
        view: View::Stacked,
        width: 8,
        runbook: "WsgiProcessGroupDown",
        targets: &[target(
            "{{process_group}} {{state}}",
            "sum by (process_group, state) (wsgi_children{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Children started and ended",
        description: "Of httpd, and of each process group. Within the interval of a point (an estimate: one child may show as 1.1). Killed: by a signal, without a proper end. Told to retire: replaced by a child with new code, or because of a limit.",
        width: 8,
        runbook: "WsgiChildrenKilled",
        targets: &[
            target(
                "{{process_group}} started",
                "sum by (process_group) (increase(wsgi_children_started_total{$S}[$R]))",
            ),
            target(
                "{{process_group}} ended ({{how}})",
                "sum by (process_group, how) (increase(wsgi_children_exited_total{$S}[$R]))",
            ),
            target(
                "{{process_group}} told to retire ({{reason}})",
                "sum by (process_group, reason) (increase(wsgi_children_recycles_total{$S}[$R]))",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Asynchronous connections",
        description: "Connections that the event MPM holds without a worker. Empty under worker and prefork, which have none.",
        width: 8,
        runbook: "WsgiMpmSaturated",
        may_be_empty: Some("only an asynchronous MPM has such connections"),
        targets: &[target(
            "{{state}}",
            "sum by (state) (wsgi_mpm_connections{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "MaxRequestWorkers",
        description: "Workers at most, added up over the chosen servers.",
        view: View::Number,
        width: 8,
        runbook: "WsgiMpmSaturated",
        targets: &[target(
            "MaxRequestWorkers",
            "sum (wsgi_mpm_workers_limit{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "ServerLimit",
        description: "Children at most, added up over the chosen servers.",
        view: View::Number,
        width: 8,
        runbook: "WsgiMpmSaturated",
        targets: &[target("ServerLimit", "sum (wsgi_mpm_children_limit{$S})")],
        ..PANEL
    },
    Panel {
        title: "ThreadsPerChild",
        description: "Requests that a child can serve at once; 1 under prefork.",
        view: View::Number,
        width: 8,
        runbook: "WsgiGilContention",
        targets: &[target(
            "ThreadsPerChild",
            "max (wsgi_mpm_threads_per_child{$S})",
        )],
        ..PANEL
    },
];

const COST: &[Panel] = &[
    Panel {
        title: "CPU (cores)",
        description: "CPU time of all children, and of each process group, per second of time: 1 is one core in full use.",
        view: View::Stacked,
        width: 8,
        runbook: "WsgiLatencyHigh",
        targets: &[target(
            "{{process_group}} {{mode}}",
            "sum by (process_group, mode) (rate(wsgi_children_cpu_seconds_total{$S}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Resident memory of all children",
        description: "Memory that children share counts once for each of them, so the machine uses less than this.",
        unit: "bytes",
        width: 8,
        runbook: "WsgiMemoryGrowth",
        targets: &[target(
            "{{instance}} {{process_group}}",
            "sum by (instance, process_group) (wsgi_children_resident_memory_bytes{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Resident memory of the largest child",
        description: "Growing for hours under even load: a leak. MaxConnectionsPerChild bounds it.",
        unit: "bytes",
        width: 8,
        runbook: "WsgiMemoryGrowth",
        targets: &[target(
            "{{instance}} {{process_group}}",
            "max by (instance, process_group) (wsgi_child_resident_memory_max_bytes{$S})",
        )],
        ..PANEL
    },
];

const RUNNING: &[Panel] = &[
    Panel {
        title: "Time since the server started",
        description: "Since the parent of httpd started; of several servers, the one that started last.",
        unit: "s",
        view: View::Number,
        width: 8,
        runbook: "WsgiMetricsAbsent",
        targets: &[target(
            "uptime",
            "time() - max (wsgi_server_start_timestamp_seconds{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Time since the configuration was loaded",
        description: "Since the last start or graceful restart of any of the chosen servers.",
        unit: "s",
        view: View::Number,
        width: 8,
        runbook: "WsgiApplicationLoadFailing",
        targets: &[target(
            "since",
            "time() - max (wsgi_config_load_timestamp_seconds{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Configuration generation",
        description: "Counts the graceful restarts since the start.",
        unit: "none",
        view: View::Number,
        width: 8,
        runbook: "WsgiApplicationLoadFailing",
        targets: &[target(
            "{{instance}}",
            "max by (instance) (wsgi_config_generation{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Builds",
        description: "What each server runs: the module's build, the MPM and Python.",
        unit: "none",
        view: View::Table,
        width: 24,
        runbook: "WsgiMetricsAbsent",
        targets: &[
            target(
                "",
                "max by (instance, version, revision, rustc, httpd) (wsgi_build_info{$S})",
            ),
            target(
                "",
                "max by (instance, mpm, threaded, forked) (wsgi_mpm_info{$S})",
            ),
            target(
                "",
                r#"max by (instance, python, implementation, gil) (label_replace(wsgi_python_info{$S}, "python", "$1", "version", "(.*)"))"#,
            ),
        ],
        ..PANEL
    },
];

const METRICS: &[Panel] = &[
    Panel {
        title: "Scrapes answered",
        description: "100 % is a server that answers every scrape; below, the other panels have gaps.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiMetricsAbsent",
        targets: &[target("{{instance}}", "avg by (instance) (up{$S})")],
        ..PANEL
    },
    Panel {
        title: "Use of the metrics' tables",
        description: "Arenas (one for each thread that counts) and series of applications, of those there is room for.",
        unit: "percentunit",
        width: 8,
        runbook: "WsgiMetricsOverflow",
        targets: &[
            target(
                "{{instance}} arenas",
                r#"sum by (instance) (wsgi_metrics_arenas{$S, state="used"}) / sum by (instance) (wsgi_metrics_arenas{$S})"#,
            ),
            target(
                "{{instance}} series",
                "sum by (instance) (wsgi_metrics_series{$S}) / sum by (instance) (wsgi_metrics_series_limit{$S})",
            ),
        ],
        ..PANEL
    },
    Panel {
        title: "Overflows",
        description: "Registrations that found no room: totals stay right, but the late ones are counted under _other.",
        width: 8,
        runbook: "WsgiMetricsOverflow",
        targets: &[target(
            "{{kind}}",
            "sum by (kind) (increase(wsgi_metrics_overflows_total{$S}[$R]))",
        )],
        ..PANEL
    },
    Panel {
        title: "Time of a scrape",
        description: "How long the server took to write the previous answer.",
        unit: "s",
        runbook: "WsgiMetricsAbsent",
        targets: &[target(
            "{{instance}}",
            "max by (instance) (wsgi_metrics_last_scrape_seconds{$S})",
        )],
        ..PANEL
    },
    Panel {
        title: "Memory of the metrics",
        description: "Size of the shared segment, and what of it is in memory.",
        unit: "bytes",
        runbook: "WsgiMetricsOverflow",
        targets: &[target(
            "{{instance}} {{kind}}",
            "sum by (instance, kind) (wsgi_metrics_segment_bytes{$S})",
        )],
        ..PANEL
    },
];
