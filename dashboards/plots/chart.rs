//! Pictures as SVG.

use crate::page::escaped;
use crate::{Mark, Span, scale, unit};
use wsgi_dashboards::prometheus::Series;

/// Colours that can be told apart, in the order of their use.
const COLOURS: [&str; 12] = [
    "#1f77b4", "#e6730a", "#2ca02c", "#c92a2a", "#7f4fbf", "#8c564b", "#d6429c", "#5f6b73",
    "#a0a020", "#17a2b8", "#0b3d62", "#f0a830",
];

/// Room for labels on the left and below.
const LEFT: f64 = 74.0;
const BELOW: f64 = 20.0;
const ABOVE: f64 = 8.0;

/// A series as it is drawn.
pub(crate) struct Line<'a> {
    /// What the legend calls it.
    pub(crate) name: String,
    /// Its values.
    pub(crate) series: &'a Series,
    /// Its colour.
    pub(crate) colour: &'static str,
}

/// Returns the colour of the series that a panel got at this place, so that an application has the same one in most
/// panels.
pub(crate) fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

/// Where values lie in a picture.
pub(crate) struct Frame<'a> {
    /// Width of the picture.
    pub(crate) width: f64,
    /// Its height.
    pub(crate) height: f64,
    /// The time that it shows.
    pub(crate) span: Span,
    /// The unit of its values.
    pub(crate) unit: &'a str,
    /// What to mark.
    pub(crate) marks: &'a [Mark],
}

impl Frame<'_> {
    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.span.start) / (self.span.end - self.span.start)
            * (self.width - LEFT - 8.0)
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        let room = self.height - ABOVE - BELOW;
        ABOVE + room - (value / top).clamp(0.0, 1.0) * room
    }

    fn bottom(&self) -> f64 {
        self.height - BELOW
    }

    fn open(&self, label: &str) -> String {
        format!(
            "<svg role=\"img\" aria-label=\"{}\" width=\"{1}\" height=\"{2}\" viewBox=\"0 0 {1} {2}\">\n",
            escaped(label),
            self.width,
            self.height
        )
    }

    /// Lines and labels of the time axis, and the marks on it.
    fn time_axis(&self) -> String {
        let mut svg = String::new();
        let at_most = ((self.width - LEFT) / 90.0) as usize;
        for (at, text) in scale::moments(self.span, at_most.max(2)) {
            let (x, bottom) = (self.x(at), self.bottom());
            // A label at the right edge would be cut in half.
            let anchor = if x > self.width - 30.0 {
                "end"
            } else {
                "middle"
            };
            svg += &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{ABOVE}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            );
            svg += &format!(
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>\n",
                self.height - 5.0
            );
        }
        for (at, colour, name) in self.marks {
            let (x, bottom) = (self.x(*at), self.bottom());
            svg += &format!(
                "<line class=\"mark\" stroke=\"{colour}\" x1=\"{x:.1}\" y1=\"{ABOVE}\" x2=\"{x:.1}\" y2=\"{bottom}\"><title>{name}</title></line>\n"
            );
        }
        svg
    }

    fn value_axis(&self, ticks: &[f64], top: f64) -> String {
        let mut svg = String::new();
        for tick in ticks {
            let y = self.y(*tick, top);
            let right = self.width - 8.0;
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            svg += &format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 6.0,
                y + 4.0,
                unit::text(self.unit, *tick)
            );
        }
        svg
    }

    /// Returns a line for each series.
    pub(crate) fn lines(&self, label: &str, lines: &[Line<'_>], limit: Option<f64>) -> String {
        let highest = lines
            .iter()
            .flat_map(|it| finite(it.series))
            .map(|(_, value)| value)
            .fold(0.0, f64::max);
        // A limit that is near is part of the picture; one far above would flatten everything else.
        let top = limit
            .filter(|limit| *limit < highest * 3.0)
            .map_or(highest, |limit| highest.max(limit));
        let ticks = scale::ticks(self.unit, top);
        let top = ticks.last().copied().unwrap_or(1.0);
        let mut svg = self.open(label) + &self.value_axis(&ticks, top) + &self.time_axis();
        for line in lines {
            for run in self.runs(line.series) {
                let colour = line.colour;
                if let [(x, value)] = run[..] {
                    let (x, y) = (self.x(x), self.y(value, top));
                    svg += &format!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{colour}\"/>\n"
                    );
                    continue;
                }
                let points: Vec<String> = run
                    .iter()
                    .map(|(at, value)| format!("{:.1},{:.1}", self.x(*at), self.y(*value, top)))
                    .collect();
                svg += &format!(
                    "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>\n",
                    points.join(" ")
                );
            }
        }
        if let Some(limit) = limit.filter(|limit| *limit <= top) {
            let (y, right) = (self.y(limit, top), self.width - 8.0);
            svg += &format!(
                "<line class=\"limit\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\n"
            );
        }
        svg + "</svg>"
    }

    /// Areas on top of each other; a series that has no value at a moment adds nothing there.
    pub(crate) fn stacked(&self, label: &str, lines: &[Line<'_>]) -> String {
        let count = ((self.span.end - self.span.start) / self.span.step).round() as usize + 1;
        let mut sums = vec![0.0; count];
        let mut any = vec![false; count];
        let mut layers = Vec::new();
        for line in lines {
            let below = sums.clone();
            for (at, value) in finite(line.series) {
                let at = ((at - self.span.start) / self.span.step).round() as usize;
                if let Some(sum) = sums.get_mut(at) {
                    *sum += value.max(0.0);
                    any[at] = true;
                }
            }
            layers.push((line.colour, below, sums.clone()));
        }
        let ticks = scale::ticks(self.unit, sums.iter().copied().fold(0.0, f64::max));
        let top = ticks.last().copied().unwrap_or(1.0);
        let mut svg = self.open(label) + &self.value_axis(&ticks, top) + &self.time_axis();
        let shown: Vec<usize> = (0..count).filter(|at| any[*at]).collect();
        for run in shown.chunk_by(|a, b| a + 1 == *b) {
            for (colour, below, above) in &layers {
                let moment = |index: usize| self.span.start + index as f64 * self.span.step;
                let upper = run.iter().map(|it| (*it, above[*it]));
                let lower = run.iter().rev().map(|it| (*it, below[*it]));
                let points: Vec<String> = upper
                    .chain(lower)
                    .map(|(index, value)| {
                        format!("{:.1},{:.1}", self.x(moment(index)), self.y(value, top))
                    })
                    .collect();
                svg += &format!(
                    "<polygon class=\"area\" fill=\"{colour}\" stroke=\"{colour}\" points=\"{}\"/>\n",
                    points.join(" ")
                );
            }
        }
        svg + "</svg>"
    }

    /// Cumulative buckets over time, as how many fell into each; rows without any above and below are left out.
    pub(crate) fn heatmap(&self, label: &str, lines: &[Line<'_>]) -> String {
        let mut buckets: Vec<(f64, &Series)> = lines
            .iter()
            .filter_map(|it| Some((it.series.labels.get("le")?.parse().ok()?, it.series)))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = std::collections::BTreeMap::new();
        let mut cells = Vec::new();
        for (row, (_, series)) in buckets.iter().enumerate() {
            for (at, value) in finite(series) {
                let before = below.insert(at.to_bits(), value).unwrap_or(0.0);
                if value - before > 1e-6 {
                    cells.push((row, at, value - before));
                }
            }
        }
        let most = cells.iter().map(|(_, _, value)| *value).fold(0.0, f64::max);
        let first = cells.iter().map(|(row, ..)| *row).min().unwrap_or(0);
        let last = cells.iter().map(|(row, ..)| *row).max().unwrap_or(0);
        let row_height = (self.height - ABOVE - BELOW) / (last - first + 1) as f64;
        let cell_width = self.x(self.span.start + self.span.step) - self.x(self.span.start);
        let mut svg = self.open(label);
        for (row, (bound, _)) in buckets.iter().enumerate().take(last + 1).skip(first) {
            let y = self.bottom() - (row - first) as f64 * row_height;
            let text = if bound.is_finite() {
                format!("≤ {}", unit::text(self.unit, *bound))
            } else {
                "more".into()
            };
            svg += &format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                LEFT - 6.0,
                y - row_height / 2.0 + 4.0
            );
        }
        for (row, at, value) in cells {
            let y = self.bottom() - (row - first + 1) as f64 * row_height;
            svg += &format!(
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#08519c\" fill-opacity=\"{:.2}\"/>\n",
                self.x(at) - cell_width,
                cell_width + 0.4,
                row_height - 0.5,
                (value / most).sqrt().clamp(0.06, 1.0)
            );
        }
        svg + &self.time_axis() + "</svg>"
    }

    /// Returns a line without axes.
    pub(crate) fn spark(&self, label: &str, series: &Series) -> String {
        let top = finite(series).map(|(_, value)| value).fold(0.0, f64::max);
        let top = if top > 0.0 { top } else { 1.0 };
        let mut svg = self.open(label);
        let place = |at: f64, value: f64| {
            let x = (at - self.span.start) / (self.span.end - self.span.start) * self.width;
            format!(
                "{x:.1},{:.1}",
                self.height - 1.0 - (value / top).clamp(0.0, 1.0) * (self.height - 2.0)
            )
        };
        for run in self.runs(series) {
            let points: Vec<String> = run.iter().map(|(at, value)| place(*at, *value)).collect();
            svg += &format!(
                "<polyline class=\"line\" stroke=\"#1f77b4\" points=\"{}\"/>\n",
                points.join(" ")
            );
        }
        svg + "</svg>"
    }

    /// Stretches without a gap.
    fn runs(&self, series: &Series) -> Vec<Vec<(f64, f64)>> {
        let points: Vec<(f64, f64)> = finite(series).collect();
        points
            .chunk_by(|a, b| b.0 - a.0 < self.span.step * 1.5)
            .map(<[_]>::to_vec)
            .collect()
    }
}

fn finite(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    series
        .points
        .iter()
        .copied()
        .filter(|(_, value)| value.is_finite())
}
