//! Small charts of the last minutes, with a description in words.

use maud::{Markup, html};

use super::model::Point;
use super::units::duration;

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 32.0;
/// Margin above and below, so that the line is not cut.
const EDGE: f64 = 2.0;
/// Length of the chart, seconds.
const SPAN: f64 = 600.0;

/// Draws the 99th percentile of an application's durations; `None` if there is none.
pub(super) fn latency(history: &[Point], now: f64) -> Option<Markup> {
    let shown: Vec<&Point> = history
        .iter()
        .filter(|point| now - point.timestamp_seconds <= SPAN)
        .collect();
    let known = || shown.iter().filter_map(|point| point.p99_seconds);
    let last = known().next_back()?;
    let (least, most) = known().fold((last, last), |(a, b), p99| (a.min(p99), b.max(p99)));
    let [least_text, most_text, last] = [least, most, last].map(duration);
    let words = if least_text == most_text {
        format!("always {last}")
    } else {
        format!("{least_text} to {most_text}, last {last}")
    };
    let place = |point: &Point, p99: f64| {
        let x = WIDTH * (1.0 - (now - point.timestamp_seconds).max(0.0) / SPAN);
        let share = if most > 0.0 { p99 / most } else { 0.0 };
        let y = HEIGHT - EDGE - share * (HEIGHT - 2.0 * EDGE);
        (x, y)
    };
    let line = |run: Vec<(&Point, f64)>| {
        let mut line = Vec::new();
        if let [(point, p99)] = run[..] {
            // A single point is drawn as wide as its interval.
            let (x, y) = place(point, p99);
            let width = (point.duration_seconds / SPAN * WIDTH).clamp(1.0, WIDTH);
            line.push(format!("{:.1},{y:.1}", (x - width).max(0.0)));
        }
        line.extend(run.iter().map(|&(point, p99)| {
            let (x, y) = place(point, p99);
            format!("{x:.1},{y:.1}")
        }));
        line.join(" ")
    };
    Some(html! {
        svg class="spark" role="img" viewBox="0 0 160 32" width="160" height="32" preserveAspectRatio="none" {
            title { "99th percentile over the last 10 minutes: " (words) }
            desc { "The slowest 1 % of requests, over time from left to right; a gap means no requests." }
            path class="base" d="M0 31.5H160" {}
            @for run in runs(&shown) {
                polyline points=(line(run)) {}
            }
        }
        " " span class="range" { (words) }
    })
}

/// Groups points that follow each other without a gap.
fn runs<'a>(points: &[&'a Point]) -> Vec<Vec<(&'a Point, f64)>> {
    let mut runs: Vec<Vec<(&Point, f64)>> = Vec::new();
    let mut end = None;
    for point in points {
        let Some(p99) = point.p99_seconds else {
            end = None;
            continue;
        };
        let begin = point.timestamp_seconds - point.duration_seconds;
        let goes_on = end.is_some_and(|end: f64| begin - end < 1.0);
        end = Some(point.timestamp_seconds);
        match runs.last_mut() {
            Some(run) if goes_on => run.push((point, p99)),
            _ => runs.push(vec![(point, p99)]),
        }
    }
    runs
}
