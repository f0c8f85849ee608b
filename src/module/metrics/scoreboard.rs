//! The state of httpd's workers, in the segment.

use wsgi_httpd::mpm::scoreboard;
use wsgi_telemetry::{Scoreboard, Segment};

/// Copies the state of httpd's workers into the segment, where `wsgictl` and every child can read it.
pub(crate) fn note(segment: Segment) {
    let Some(workers) = scoreboard::read() else {
        return;
    };
    segment.set_scoreboard(&Scoreboard {
        workers: [
            workers.idle,
            workers.starting,
            workers.reading,
            workers.writing,
            workers.keepalive,
            workers.closing,
            workers.logging,
            workers.graceful,
            workers.open_slot,
        ],
        connections: workers.connections.map(|connections| {
            [
                connections.total,
                connections.keepalive,
                connections.closing,
                connections.writing,
            ]
        }),
    });
}
