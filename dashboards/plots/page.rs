//! The page of a dashboard: its grid, and in each panel a title, a picture and a legend.

use crate::chart::{Frame, Line, colour};
use crate::{Drawn, Mark, Span, scale, unit};
use std::collections::{BTreeMap, BTreeSet};
use wsgi_dashboards::panel::{Dashboard, Item, Panel, View};
use wsgi_dashboards::parameters::Parameters;
use wsgi_dashboards::prometheus::Series;

/// Pixels of one of the 24 columns.
const COLUMN: f64 = 58.0;
/// Most rows of a legend.
const LEGEND: usize = 8;

const STYLE: &str = "
body { font: 14px/1.4 system-ui, sans-serif; color: #1b1f23; background: #f4f5f7; margin: 16px auto; width: 1392px }
h1 { margin: 0 } h2 { grid-column: 1 / -1; margin: 14px 0 0; font-size: 18px }
.grid24 { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
section { background: #fff; border: 1px solid #d8dce1; border-radius: 4px; padding: 8px 10px; min-width: 0 }
h3 { margin: 0; font-size: 14px } h3 span { font-weight: normal; color: #57606a }
p { margin: 2px 0 4px; color: #57606a; font-size: 12px }
svg { display: block; max-width: 100% } svg text { font-size: 11px; fill: #57606a }
.grid { stroke: #e6e8eb } .mark { stroke-width: 1.5; stroke-dasharray: 2 2 }
.line { fill: none; stroke-width: 1.6 } .area { fill-opacity: .55; stroke-width: 1 }
.limit { stroke: #c92a2a; stroke-width: 1.5; stroke-dasharray: 7 4 }
table { border-collapse: collapse; font-size: 12px } td, th { padding: 0 12px 0 0; text-align: left }
.legend td + td, .legend th + th { text-align: right } .legend { margin-left: 74px }
.legend i { display: inline-block; width: 12px; height: 4px; margin-right: 6px; vertical-align: middle }
.number { font-size: 30px; font-weight: 600; color: #1a7f37 } .number.over { color: #c92a2a } .number.free { color: #1b1f23 }
.limit-note { color: #c92a2a; margin-left: 74px } .more { margin-left: 74px } .none { padding: 24px; text-align: center; color: #9a6700 }
.data td, .data th { border-bottom: 1px solid #e6e8eb; padding: 3px 16px 3px 0 }
";

/// Returns the page.
pub(crate) fn page(
    dashboard: &Dashboard,
    drawn: &[Drawn],
    marks: &[Mark],
    span: Span,
    parameters: &Parameters,
) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n<body>\n<h1>{0}</h1>\n<p>{1} From {2} to {3} UTC.{4}</p>\n<div class=\"grid24\">\n",
        escaped(dashboard.title),
        escaped(dashboard.description),
        time(span.start),
        time(span.end),
        marks_in_words(marks),
    );
    let mut rest = drawn.iter();
    for (item, place) in dashboard.layout() {
        match item {
            Item::Heading(question) => html += &format!("<h2>{}</h2>\n", escaped(question)),
            Item::Panel(panel) => {
                let Some(drawn) = rest.next() else { break };
                html += &format!(
                    "<section style=\"grid-column: span {}\">\n{}</section>\n",
                    place.w,
                    {
                        let width = f64::from(place.w) * COLUMN - 30.0;
                        section(
                            panel,
                            drawn,
                            width,
                            marks,
                            span,
                            panel.limit.map(|limit| limit(parameters)),
                        )
                    }
                );
            }
        }
    }
    html + "</div>\n</body></html>\n"
}

fn marks_in_words(marks: &[Mark]) -> String {
    let kinds: BTreeSet<_> = marks
        .iter()
        .map(|(_, colour, name)| (*name, *colour))
        .collect();
    kinds
        .iter()
        .map(|(name, colour)| format!(" Dotted {colour} lines: {}.", name.to_lowercase()))
        .collect()
}

fn section(
    panel: &Panel,
    drawn: &Drawn,
    width: f64,
    marks: &[Mark],
    span: Span,
    limit: Option<f64>,
) -> String {
    let heading = match panel.view {
        View::Table | View::Number => escaped(panel.title),
        View::Heatmap | View::Lines | View::Stacked => {
            format!(
                "{} <span>({})</span>",
                escaped(panel.title),
                unit::name(panel.unit)
            )
        }
    };
    let mut html = format!(
        "<h3>{heading}</h3>\n<p>{}</p>\n",
        escaped(panel.description)
    );
    if drawn.is_empty() {
        let why = panel
            .may_be_empty
            .map_or("no data".into(), |why| format!("no data: {why}"));
        return html + &format!("<div class=\"none\">{}</div>\n", escaped(&why));
    }
    let series = drawn
        .results
        .iter()
        .flat_map(|(legend, series)| series.iter().map(move |it| (legend, it)));
    let mut lines: Vec<Line<'_>> = series
        .enumerate()
        .map(|(at, (legend, series))| Line {
            name: filled(legend, &series.labels),
            series,
            colour: colour(at),
        })
        .collect();
    let height = if panel.view == View::Number {
        36.0
    } else {
        190.0
    };
    let frame = Frame {
        width,
        height,
        span,
        unit: panel.unit,
        marks,
    };
    match panel.view {
        View::Table => html += &table(drawn),
        View::Number => html += &number(panel, &lines, &frame, limit),
        View::Heatmap => html += &frame.heatmap(panel.title, &lines),
        View::Lines | View::Stacked => {
            // The largest first: what matters heads the legend, and thin layers ride on top of thick ones.
            lines.sort_by(|a, b| largest(b.series).total_cmp(&largest(a.series)));
            html += &match panel.view {
                View::Stacked => frame.stacked(panel.title, &lines),
                _ => frame.lines(panel.title, &lines, limit),
            };
            html += &legend(panel, &lines, limit);
        }
    }
    html + "\n"
}

fn last(series: &Series) -> f64 {
    series.points.last().map_or(f64::NAN, |(_, value)| *value)
}

fn largest(series: &Series) -> f64 {
    series
        .points
        .iter()
        .map(|(_, value)| *value)
        .filter(|it| it.is_finite())
        .fold(f64::NAN, f64::max)
}

fn legend(panel: &Panel, lines: &[Line<'_>], limit: Option<f64>) -> String {
    // A few lines at zero have a row each like all others; many would hide what happens.
    let (flat, shown): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| lines.len() > LEGEND && largest(line.series) == 0.0);
    let mut html =
        "<table class=\"legend\"><tr><th></th><th>last</th><th>max</th></tr>\n".to_owned();
    for line in shown.iter().take(LEGEND) {
        html += &format!(
            "<tr><td><i style=\"background:{}\"></i>{}</td><td>{}</td><td>{}</td></tr>\n",
            line.colour,
            escaped(&line.name),
            unit::text(panel.unit, last(line.series)),
            unit::text(panel.unit, largest(line.series)),
        );
    }
    html += "</table>";
    if shown.len() > LEGEND {
        html += &format!("<p class=\"more\">and {} more</p>", shown.len() - LEGEND);
    }
    if !flat.is_empty() {
        html += &format!("<p class=\"more\">and {} that stay at zero</p>", flat.len());
    }
    if let Some(limit) = limit {
        html += &format!(
            "<p class=\"limit-note\">Alert above {}.</p>",
            unit::text(panel.unit, limit)
        );
    }
    html
}

fn number(panel: &Panel, lines: &[Line<'_>], frame: &Frame<'_>, limit: Option<f64>) -> String {
    let mut html = String::new();
    for line in lines {
        let value = last(line.series);
        let class = match limit {
            None => "free",
            Some(limit) if value > limit => "over",
            Some(_) => "",
        };
        let name = if lines.len() > 1 {
            format!(" <small>{}</small>", escaped(&line.name))
        } else {
            String::new()
        };
        html += &format!(
            "<div class=\"number {class}\">{}{name}</div>\n",
            unit::text(panel.unit, value)
        );
        html += &frame.spark(panel.title, line.series);
    }
    html
}

/// Returns a row for each server or application: what the queries returned, joined by their labels in common.
fn table(drawn: &Drawn) -> String {
    let mut rows: Vec<BTreeMap<&str, &str>> = Vec::new();
    for (at, (_, series)) in drawn.results.iter().enumerate() {
        for series in series {
            let labels: BTreeMap<&str, &str> = series
                .labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let same =
                |row: &&mut BTreeMap<&str, &str>| row.get("instance") == labels.get("instance");
            match rows.iter_mut().find(same).filter(|_| at > 0) {
                Some(row) => row.extend(labels),
                None => rows.push(labels),
            }
        }
    }
    let mut columns: Vec<&str> = rows
        .iter()
        .flat_map(|row| row.keys().copied())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    columns.sort_by_key(|name| (*name != "instance", *name != "app"));
    let head: String = columns
        .iter()
        .map(|it| format!("<th>{}</th>", escaped(it)))
        .collect();
    let mut html = format!("<table class=\"data\"><tr>{head}</tr>\n");
    for row in rows {
        let cells = columns
            .iter()
            .map(|it| format!("<td>{}</td>", escaped(row.get(it).unwrap_or(&""))))
            .collect::<String>();
        html += &format!("<tr>{cells}</tr>\n");
    }
    html + "</table>"
}

fn filled(legend: &str, labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .fold(legend.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        })
}

fn time(at: f64) -> String {
    let (hours, minutes, seconds) = scale::clock(at);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

/// Text that HTML and SVG show as it is.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsgi_dashboards::dashboards;

    fn series(value: f64) -> Series {
        let labels =
            ["app", "le", "instance", "state"].map(|name| (name.to_owned(), "<i>&\"".to_owned()));
        Series {
            labels: labels.into(),
            points: vec![(10.0, value), (20.0, f64::NAN), (30.0, value)],
        }
    }

    /// Whatever is measured, the page stays a page: labels are text, and no coordinate is anything but a number.
    #[test]
    fn labels_and_values_cannot_break_the_page() {
        let span = Span {
            start: 10.0,
            end: 30.0,
            step: 10.0,
        };
        for value in [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY] {
            for dashboard in dashboards() {
                let drawn: Vec<Drawn> = dashboard
                    .panels()
                    .map(|panel| Drawn {
                        panel,
                        results: vec![("{{app}}", vec![series(value), series(value)])],
                    })
                    .collect();
                let page = page(dashboard, &drawn, &[], span, &Parameters::default());
                assert!(!page.contains("<i>&"), "{value}: a label is not escaped");
                assert!(
                    page.contains("&lt;i&gt;&amp;&quot;"),
                    "{value}: the label is missing"
                );
                assert!(
                    !page.contains("NaN") && !page.contains("inf\"") && !page.contains("inf,"),
                    "{value}: not a number"
                );
                for panel in dashboard.panels() {
                    assert!(
                        page.contains(&escaped(panel.title)),
                        "{} is missing",
                        panel.title
                    );
                }
            }
        }
    }
}
