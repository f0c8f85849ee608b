//! The status page: one file without external resources or scripts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::details::details;
use super::model::{Level, Status, Window};
use super::sections;
use super::units::{
    bytes, calendar, count, duration, duration_or_dash, percent, plural, rate, span,
};

/// The policy of the page: it may use its own style and nothing from elsewhere.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the page. It reloads itself after `refresh` seconds.
pub fn render_html(status: &Status, refresh: Option<u32>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if let Some(seconds) = refresh {
                    meta http-equiv="refresh" content=(seconds);
                }
                title { (status.health.level.text()) " – WSGI status" }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (header(status, refresh))
                main {
                    (health(status))
                    (figures(status))
                    (sections::running(status))
                    (sections::applications(status))
                    (sections::events(status))
                    (sections::deaths(status))
                    (sections::totals(status))
                    (sections::groups(status))
                    (sections::process_groups(status))
                    div class="columns" {
                        (sections::children(status))
                        (details(status))
                    }
                }
            }
        }
    };
    page.into_string()
}

fn header(status: &Status, refresh: Option<u32>) -> Markup {
    html! {
        header {
            h1 { "WSGI status" }
            nav class="quiet" aria-label="This page" {
                "As of " (moment(status.timestamp_seconds))
                @match refresh {
                    Some(seconds) => {
                        ", again every " (plural(seconds, "second", "seconds")) " · "
                        a href="?refresh=0" { "Stop refreshing" }
                    }
                    None => {
                        ", not refreshed · "
                        a href="?refresh=5" { "Refresh every 5 seconds" }
                    }
                }
                " · " a href="?format=json" { "JSON" }
            }
        }
    }
}

/// Returns a time of day that programs understand, too.
pub(super) fn moment(unix_seconds: f64) -> Markup {
    let (date, time) = calendar(unix_seconds);
    html! {
        time datetime={ (date) "T" (time) "Z" } title={ (date) " " (time) " UTC" } { (time) " UTC" }
    }
}

/// Returns the second line of a cell or a figure.
pub(super) fn under(text: impl std::fmt::Display) -> Markup {
    html! { " " span class="under" { (text) } }
}

fn class(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Notice => "notice",
        Level::Trouble => "trouble",
    }
}

fn health(status: &Status) -> Markup {
    let health = &status.health;
    html! {
        section aria-label="Health" class={ "health " (class(health.level)) } {
            ul {
                @for finding in &health.findings {
                    li class=(class(finding.level)) {
                        span class="level" { (finding.level.text()) ":" } " " (finding.text)
                    }
                }
            }
        }
    }
}

fn figures(status: &Status) -> Markup {
    let oldest = status.running.first().map_or_else(
        || String::from("nothing runs"),
        |oldest| format!("oldest {}", duration(oldest.age_seconds)),
    );
    let resident = status
        .children
        .iter()
        .filter_map(|child| child.resident_bytes);
    let resident = match resident.fold(0, u64::saturating_add) {
        0 => String::new(),
        resident => format!("{} resident", bytes(resident)),
    };
    html! {
        dl class="figures" {
            (busy_workers(status))
            (figure("Requests running", count(status.running_count as u64), &oldest))
            @match &status.recent {
                Some(recent) => (recent_figures(recent)),
                None => {
                    @for title in ["Requests per second", "Failed", "99 % within"] {
                        (figure(title, "–".into(), "no sample yet"))
                    }
                }
            }
            (figure("Children", count(status.children_count as u64), &resident))
        }
    }
}

fn busy_workers(status: &Status) -> Markup {
    let (busy, limit) = (status.workers.busy, status.workers.limit);
    html! {
        div {
            dt { "Workers busy" }
            dd {
                (count(busy))
                @if limit > 0 {
                    " of " (count(limit))
                    meter min="0" aria-hidden="true" max=(limit) low=(limit.saturating_mul(3) / 4)
                        high=(limit.saturating_mul(9) / 10) optimum="0" value=(busy) {}
                }
            }
        }
    }
}

fn recent_figures(recent: &Window) -> Markup {
    let span = format!("in the last {}", span(recent.duration_seconds));
    let failed = format!("{} of {}", count(recent.errors), count(recent.requests));
    let half = format!("median {}", duration_or_dash(recent.p50_seconds));
    html! {
        (figure("Requests per second", rate(recent.requests_per_second), &span))
        (figure("Failed", percent(recent.error_ratio), &failed))
        (figure("99 % within", duration_or_dash(recent.p99_seconds), &half))
    }
}

fn figure(title: &'static str, value: String, note: &str) -> Markup {
    html! {
        div {
            dt { (title) }
            dd { (value) (under(note)) }
        }
    }
}
