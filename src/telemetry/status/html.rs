//! The status page: one file without external resources or scripts.

use super::details::details;
use super::markup::Markup;
use super::model::{Level, Status, Window};
use super::tables;
use super::units::{bytes, count, duration, duration_or_dash, percent, plural, rate, span};

/// The policy of the page: it may use its own style and nothing from elsewhere.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns the page. It reloads itself after `refresh` seconds.
pub fn render_html(status: &Status, refresh: Option<u32>) -> String {
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.raw("<meta name=\"robots\" content=\"noindex\">");
    if let Some(seconds) = refresh {
        page.raw("<meta http-equiv=\"refresh\"")
            .attribute("content", seconds)
            .raw(">");
    }
    let level = status.health.level;
    page.element("title", format_args!("{} – WSGI status", level.text()));
    page.raw("<style>")
        .raw(include_str!("style.css"))
        .raw("</style></head><body>");
    header(&mut page, status, refresh);
    page.raw("<main>");
    health(&mut page, status);
    figures(&mut page, status);
    tables::running(&mut page, status);
    tables::applications(&mut page, status);
    tables::events(&mut page, status);
    tables::deaths(&mut page, status);
    tables::totals(&mut page, status);
    tables::groups(&mut page, status);
    page.raw("<div class=\"columns\">");
    tables::children(&mut page, status);
    details(&mut page, status);
    page.raw("</div></main></body></html>\n");
    page.finish()
}

fn header(page: &mut Markup, status: &Status, refresh: Option<u32>) {
    page.raw("<header><h1>WSGI status</h1><nav class=\"quiet\" aria-label=\"This page\">");
    page.text("As of ");
    page.moment(status.timestamp_seconds);
    match refresh {
        Some(seconds) => {
            let every = plural(seconds, "second", "seconds");
            page.text(format_args!(", again every {every} · "));
            page.raw("<a href=\"?refresh=0\">Stop refreshing</a>");
        }
        None => {
            page.text(", not refreshed · ");
            page.raw("<a href=\"?refresh=5\">Refresh every 5 seconds</a>");
        }
    }
    page.text(" · ")
        .raw("<a href=\"?format=json\">JSON</a></nav></header>");
}

fn class(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Notice => "notice",
        Level::Trouble => "trouble",
    }
}

fn health(page: &mut Markup, status: &Status) {
    let health = &status.health;
    page.raw("<section aria-label=\"Health\"");
    page.attribute("class", format_args!("health {}", class(health.level)));
    page.raw("><ul>");
    for finding in &health.findings {
        page.raw("<li")
            .attribute("class", class(finding.level))
            .raw(">");
        page.raw("<span class=\"level\">")
            .text(format_args!("{}:", finding.level.text()));
        page.raw("</span> ").text(&finding.text).raw("</li>");
    }
    page.raw("</ul></section>");
}

fn figures(page: &mut Markup, status: &Status) {
    let workers = &status.workers;
    page.raw("<dl class=\"figures\"><div><dt>Workers busy</dt><dd>");
    match workers.limit {
        0 => page.text(count(workers.busy)),
        limit => page.text(format_args!("{} of {}", count(workers.busy), count(limit))),
    };
    if workers.limit > 0 {
        page.raw("<meter min=\"0\" aria-hidden=\"true\"");
        page.attribute("max", workers.limit);
        page.attribute("low", workers.limit.saturating_mul(3) / 4);
        page.attribute("high", workers.limit.saturating_mul(9) / 10);
        page.attribute("optimum", 0);
        page.attribute("value", workers.busy).raw("></meter>");
    }
    page.raw("</dd></div>");
    let oldest = status.running.first().map_or_else(
        || String::from("nothing runs"),
        |oldest| format!("oldest {}", duration(oldest.age_seconds)),
    );
    figure(
        page,
        "Requests running",
        count(status.running_count as u64),
        &oldest,
    );
    match &status.recent {
        Some(recent) => recent_figures(page, recent),
        None => {
            let note = "no sample yet";
            figure(page, "Requests per second", "–".into(), note);
            figure(page, "Failed", "–".into(), note);
            figure(page, "99 % within", "–".into(), note);
        }
    }
    let memory = status
        .children
        .iter()
        .filter_map(|child| child.resident_bytes);
    let memory = memory.fold(0, u64::saturating_add);
    let note = match memory {
        0 => String::new(),
        memory => format!("{} resident", bytes(memory)),
    };
    figure(page, "Children", count(status.children_count as u64), &note);
    page.raw("</dl>");
}

fn recent_figures(page: &mut Markup, recent: &Window) {
    let span = format!("in the last {}", span(recent.duration_seconds));
    figure(
        page,
        "Requests per second",
        rate(recent.requests_per_second),
        &span,
    );
    let failed = format!("{} of {}", count(recent.errors), count(recent.requests));
    figure(page, "Failed", percent(recent.error_ratio), &failed);
    let half = format!("median {}", duration_or_dash(recent.p50_seconds));
    figure(
        page,
        "99 % within",
        duration_or_dash(recent.p99_seconds),
        &half,
    );
}

fn figure(page: &mut Markup, title: &'static str, value: String, note: &str) {
    page.raw("<div>")
        .element("dt", title)
        .raw("<dd>")
        .text(value);
    page.raw(" <span class=\"under\">")
        .text(note)
        .raw("</span></dd></div>");
}
