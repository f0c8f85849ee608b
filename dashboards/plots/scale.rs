//! Axes: where ticks are, and where a value lies.

use crate::{Span, unit};

/// Ticks of a vertical axis from 0, the last at or above `top`.
pub(crate) fn ticks(unit: &str, top: f64) -> Vec<f64> {
    let top = if top.is_finite() && top > 0.0 {
        top
    } else {
        1.0
    };
    let base = unit::base(unit, top);
    let rough = top / base / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|it| it * power)
        .find(|it| *it >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0) * base;
    let count = (top / step * 0.999).ceil() as usize;
    (0..=count).map(|at| at as f64 * step).collect()
}

/// Moments at which to label the time axis, and how: hours and minutes of UTC, with seconds where they are close.
pub(crate) fn moments(span: Span, at_most: usize) -> Vec<(f64, String)> {
    const STEPS: [f64; 14] = [
        5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
        21_600.0, 86_400.0,
    ];
    let length = span.end - span.start;
    let step = STEPS
        .into_iter()
        .find(|step| length / step <= at_most as f64)
        .unwrap_or(length / at_most as f64);
    let mut at = (span.start / step).ceil() * step;
    let mut moments = Vec::new();
    while at <= span.end {
        let (hours, minutes, seconds) = clock(at);
        let text = if step < 60.0 {
            format!("{hours:02}:{minutes:02}:{seconds:02}")
        } else {
            format!("{hours:02}:{minutes:02}")
        };
        moments.push((at, text));
        at += step;
    }
    moments
}

/// Returns the time of day in UTC.
pub(crate) fn clock(at: f64) -> (u64, u64, u64) {
    let second = at as u64 % 86_400;
    (second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_even_and_cover_the_values() {
        for (unit, top) in [
            ("s", 0.0007),
            ("s", 95.0),
            ("bytes", 3e8),
            ("short", 7.0),
            ("percentunit", 0.014),
            ("short", 0.0),
        ] {
            let ticks = ticks(unit, top);
            assert!((2..=7).contains(&ticks.len()), "{unit} {top}: {ticks:?}");
            assert!(
                ticks
                    .last()
                    .is_some_and(|last| *last >= top * 0.999 && *last <= top.max(0.5) * 2.6),
                "{ticks:?}"
            );
        }
        assert_eq!(ticks("bytes", 3.0 * 1024.0), [0.0, 1024.0, 2048.0, 3072.0]);
    }

    #[test]
    fn moments_are_whole() {
        let moments = moments(
            Span {
                start: 1_000_000_003.0,
                end: 1_000_000_903.0,
                step: 4.0,
            },
            6,
        );
        assert!(
            moments.iter().all(|(at, _)| at % 300.0 == 0.0),
            "{moments:?}"
        );
        assert_eq!(moments[0].1, "01:50");
    }
}
