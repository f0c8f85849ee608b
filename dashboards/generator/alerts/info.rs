//! Alerts to look at when there is time.

use super::{Alert, Severity};

pub(super) static INFO: &[Alert] = &[
    Alert {
        name: "WsgiMemoryGrowth",
        severity: Severity::Info,
        wait: "1h",
        expr: |p| {
            format!(
                "deriv(wsgi_child_resident_memory_max_bytes[6h]) > 0 and predict_linear(wsgi_child_resident_memory_max_bytes[6h], 86400) > {} * wsgi_child_resident_memory_max_bytes",
                p.growth
            )
        },
        summary: "The largest child of {{ $labels.instance }}{{ with $labels.process_group }}, process group {{ . }},{{ end }} keeps growing",
        description: "The memory of the largest child of {{ $labels.instance }}{{ with $labels.process_group }}, process group {{ . }},{{ end }} has been growing for six hours, by {{ $value | humanize1024 }}B per second; within a day it would be several times what it is.",
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
            "`MaxConnectionsPerChild 10000` replaces children before they are too large, and `maximum-requests=` of `WSGIDaemonProcess` the processes of a group: it buys time.",
            "Find it: `tracemalloc` in one child shows which lines allocate what stays.",
        ],
    },
    Alert {
        name: "WsgiGcPauseLong",
        severity: Severity::Info,
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
        severity: Severity::Info,
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
