//! The requests that a process was running when it ended, as its arenas show them. They are known only from what the
//! process itself has written, so they may be wrong.

use wsgi_telemetry::catalogue::METHOD;
use wsgi_telemetry::{Running, Segment, clock};

/// Highest number of requests that are named.
const MOST_TOLD: usize = 5;

/// What is told where no request is known.
pub(crate) const NOTHING: &str = "no request that is known";

/// Returns the requests of a process that was reaped, before its arenas are freed.
pub(crate) fn of(segment: Segment, pid: u32) -> Vec<Running> {
    segment.running_of(pid, MOST_TOLD + 1)
}

/// Describes these requests.
pub(crate) fn in_words(segment: Segment, running: &[Running]) -> String {
    let now = clock::now();
    let known = segment.applications();
    let one = |running: &Running| {
        let method = METHOD.values.get(running.method).unwrap_or(&"_OTHER");
        let mut of = known.iter().filter(|known| known.app == running.app);
        let label = of.next().map_or("_other", |known| &known.label);
        let age = now.saturating_sub(running.since) as f64 / 1e9;
        format!(
            "{method} {} of application '{label}' for {age:.1} s ({})",
            running.url,
            running.phase.text()
        )
    };
    let told: Vec<String> = running.iter().take(MOST_TOLD).map(one).collect();
    match running.len() {
        0 => NOTHING.into(),
        count if count > MOST_TOLD => format!("{}; and more", told.join("; ")),
        _ => told.join("; "),
    }
}
