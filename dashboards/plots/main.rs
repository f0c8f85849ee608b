//! Draws the dashboards without Grafana: asks a Prometheus every query of every panel, and writes a page for each.
//!
//! * `unit`: numbers as people read them
//! * `scale`: axes
//! * `chart`: pictures
//! * `page`: the page around them

#![forbid(unsafe_code)]

mod chart;
mod page;
mod scale;
mod unit;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use wsgi_dashboards::grafana::ANNOTATIONS;
use wsgi_dashboards::panel::{Dashboard, Panel};
use wsgi_dashboards::parameters::Parameters;
use wsgi_dashboards::prometheus::{Client, Series};
use wsgi_dashboards::{Choice, dashboards};

/// Draws each dashboard as one HTML page, from the data of a Prometheus.
#[derive(Parser)]
struct Arguments {
    /// Where Prometheus answers
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    prometheus: String,
    /// How far to look back: 90s, 15m, 2h
    #[arg(long, default_value = "15m", value_parser = seconds)]
    last: f64,
    /// What rates are taken over; at least four scrapes
    #[arg(long, default_value = "1m")]
    rate_interval: String,
    /// The folder for the pages
    #[arg(long, default_value = "plots")]
    out: PathBuf,
    /// Jobs to show, as a regular expression
    #[arg(long, default_value = ".+")]
    job: String,
    /// Servers to show, as a regular expression
    #[arg(long, default_value = ".+")]
    instance: String,
    /// Applications to show, as a regular expression
    #[arg(long, default_value = ".+")]
    app: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.as_bytes() {
        [.., b's'] => (&text[..text.len() - 1], 1.0),
        [.., b'm'] => (&text[..text.len() - 1], 60.0),
        [.., b'h'] => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number * factor),
        _ => Err("a number with s, m or h behind it is wanted".into()),
    }
}

/// The span of time of a page.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: f64,
    end: f64,
    step: f64,
}

/// A panel with what its queries returned, each with its legend.
pub(crate) struct Drawn {
    panel: &'static Panel,
    results: Vec<(&'static str, Vec<Series>)>,
}

impl Drawn {
    fn is_empty(&self) -> bool {
        self.results.iter().all(|(_, series)| series.is_empty())
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let prometheus = Client::new(&arguments.prometheus);
    let choice = Choice {
        job: arguments.job,
        instance: arguments.instance,
        app: arguments.app,
        rate_interval: arguments.rate_interval,
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs_f64();
    // As many points as a panel has pixels to tell apart, on whole seconds, so that gaps come from the data only.
    let step = (arguments.last / 240.0).ceil().max(1.0);
    let end = (now / step).floor() * step;
    let span = Span {
        start: end - (arguments.last / step).floor() * step,
        end,
        step,
    };
    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let mut empty = Vec::new();
    for dashboard in dashboards() {
        let (marks, drawn) = ask(dashboard, &prometheus, &choice, span)?;
        let lacking = drawn
            .iter()
            .filter(|it| it.is_empty() && it.panel.may_be_empty.is_none());
        empty.extend(lacking.map(|it| format!("{} › {}", dashboard.title, it.panel.title)));
        let file = arguments.out.join(format!("{}.html", dashboard.name));
        let text = page::page(dashboard, &drawn, &marks, span, &Parameters::default());
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if !empty.is_empty() {
        bail!("no data for these panels:\n{}", empty.join("\n"));
    }
    Ok(())
}

/// A moment to mark, with the colour and the name of the mark.
pub(crate) type Mark = (f64, &'static str, &'static str);

fn ask(
    dashboard: &'static Dashboard,
    prometheus: &Client,
    choice: &Choice,
    span: Span,
) -> Result<(Vec<Mark>, Vec<Drawn>)> {
    let mut marks = Vec::new();
    for (name, colour, target) in ANNOTATIONS {
        let query = choice.fill(&target.grafana());
        for series in prometheus.range(&query, span.start, span.end, span.step)? {
            // The query holds for as long as the event is within the rate interval: mark where that begins.
            let mut before = f64::NEG_INFINITY;
            for (at, _) in series.points {
                // What holds at the very beginning began before it.
                if at > before + 1.5 * span.step && at > span.start {
                    marks.push((at, colour, name));
                }
                before = at;
            }
        }
    }
    let mut drawn = Vec::new();
    for panel in dashboard.panels() {
        let mut results = Vec::new();
        for target in panel.targets {
            let expr = choice.fill(&target.grafana());
            let series = if panel.instant() {
                prometheus.instant(&expr, Some(span.end))?
            } else {
                prometheus.range(&expr, span.start, span.end, span.step)?
            };
            results.push((target.legend, series));
        }
        drawn.push(Drawn { panel, results });
    }
    Ok((marks, drawn))
}
