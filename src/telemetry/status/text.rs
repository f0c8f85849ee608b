//! The status as text for a terminal.

use std::fmt::{self, Write};

use super::details::listed;
use super::model::{
    ApplicationStatus, ChildStatus, DeathStatus, EventStatus, GroupStatus, Level, RequestStatus,
    Status, Window,
};
use super::sections::{
    child_state, gil, happened, interpreter, interpreter_of, phases, process_group, revision,
    states,
};
use super::units::{
    bytes, calendar, count, duration, duration_or_dash, percent, plural, rate, span,
};

/// Properties of a terminal.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Number of columns; at least 40 are used.
    pub width: usize,
    /// Whether the terminal shows colours.
    pub colours: bool,
    /// Most rows in each of the tables of running requests, events and children.
    pub rows: usize,
}

/// Returns the status in lines of at most `style.width` characters. The only control characters are line feeds and
/// those of colours.
pub fn render_text(status: &Status, style: TextStyle) -> String {
    let mut page = Terminal {
        out: String::new(),
        width: style.width.max(40),
        colours: style.colours,
    };
    for finding in &status.health.findings {
        page.finding(finding.level, &finding.text);
    }
    page.out.push('\n');
    if status.measured {
        page.wrapped("", &figures(status), "");
        running(&mut page, status, style.rows);
        applications(&mut page, status);
        events(&mut page, status, style.rows);
    }
    deaths(&mut page, status);
    children(&mut page, status, style.rows);
    process_groups(&mut page, status, style.rows);
    groups(&mut page, "Application groups", &status.groups);
    server(&mut page, status);
    page.out
}

struct Terminal {
    out: String,
    width: usize,
    colours: bool,
}

/// A column: its title and its alignment.
struct TextColumn(&'static str, Set);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Left,
    Right,
    /// Aligned left, and cut if there is no room.
    Flexible,
}

impl Terminal {
    fn paint(&mut self, code: &str, text: &str) {
        let text = clean(text);
        // Writing to a `String` does not fail.
        let _ = if self.colours {
            write!(self.out, "\x1b[{code}m{text}\x1b[0m")
        } else {
            write!(self.out, "{text}")
        };
    }

    fn finding(&mut self, level: Level, text: &str) {
        let code = match level {
            Level::Ok => "1;32",
            Level::Notice => "1;33",
            Level::Trouble => "1;31",
        };
        self.wrapped(level.text(), text, code);
    }

    /// Writes `text` in lines of whole words, beside a highlighted `mark`.
    fn wrapped(&mut self, mark: &str, text: &str, code: &str) {
        let indent = if mark.is_empty() { 0 } else { 9 };
        if indent > 0 {
            self.paint(code, &format!("{mark:indent$}"));
        }
        let mut room = self.width - indent;
        let mut first = true;
        for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
            let word = cut(word, self.width - indent);
            let length = word.chars().count() + usize::from(!first);
            if length > room {
                let _ = write!(self.out, "\n{:indent$}", "");
                room = self.width - indent;
                first = true;
            }
            if !first {
                self.out.push(' ');
            }
            self.out.push_str(&word);
            room -= word.chars().count() + usize::from(!first);
            first = false;
        }
        self.out.push('\n');
    }

    fn title(&mut self, text: impl fmt::Display) {
        self.out.push('\n');
        let text = cut(&text.to_string(), self.width);
        self.paint("1", &text);
        self.out.push('\n');
    }

    fn table(&mut self, columns: &[TextColumn], rows: &[Vec<String>]) {
        let length = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = rows
                    .iter()
                    .map(|row| row.get(at).map_or(0, |cell| length(cell)));
                cells.max().unwrap_or(0).max(length(column.0))
            })
            .collect();
        fit(&mut widths, columns, self.width);
        let titles: Vec<String> = columns.iter().map(|column| column.0.to_owned()).collect();
        let titles = line(&titles, columns, &widths, self.width);
        self.paint("2", &titles);
        self.out.push('\n');
        for row in rows {
            let line = clean(&line(row, columns, &widths, self.width));
            self.out.push_str(&line);
            self.out.push('\n');
        }
    }
}

/// Narrows the flexible columns, the widest first, until all columns fit.
fn fit(widths: &mut [usize], columns: &[TextColumn], width: usize) {
    let gaps = 2 * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let flexible = (0..columns.len()).filter(|&at| columns[at].1 == Set::Flexible);
        match flexible.max_by_key(|&at| widths[at]) {
            Some(widest) if widths[widest] > 8 => widths[widest] -= 1,
            _ => return,
        }
    }
}

fn line(cells: &[String], columns: &[TextColumn], widths: &[usize], width: usize) -> String {
    let mut line = String::new();
    for ((cell, column), &width) in cells.iter().zip(columns).zip(widths) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        let cell = cut(cell, width);
        let _ = match column.1 {
            Set::Right => write!(line, "{cell:>width$}"),
            Set::Left | Set::Flexible => write!(line, "{cell:width$}"),
        };
    }
    cut(line.trim_end(), width)
}

/// Returns at most `width` characters of `text`.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// Replaces control characters, which terminals would obey.
fn clean(text: &str) -> String {
    let seen = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(seen).collect()
}

fn figures(status: &Status) -> String {
    let workers = &status.workers;
    let mut said = match workers.limit {
        0 => format!("{} busy", plural(workers.busy, "worker", "workers")),
        limit => format!("{} of {} workers busy", count(workers.busy), count(limit)),
    };
    let _ = write!(
        said,
        ", {} running",
        plural(status.running_count as u64, "request", "requests")
    );
    if let Some(oldest) = status.running.first() {
        let _ = write!(said, " (oldest {})", duration(oldest.age_seconds));
    }
    if let Some(recent) = &status.recent {
        let _ = write!(
            said,
            "; in the last {}: {} requests per second, {} failed, median {}, 99 % within {}",
            span(recent.duration_seconds),
            rate(recent.requests_per_second),
            percent(recent.error_ratio),
            duration_or_dash(recent.p50_seconds),
            duration_or_dash(recent.p99_seconds)
        );
    }
    said
}

fn running(page: &mut Terminal, status: &Status, rows: usize) {
    if status.running.is_empty() {
        return;
    }
    page.title(format_args!("Running now: {}", phases(&status.running)));
    let mut columns = vec![
        TextColumn("FOR", Set::Right),
        TextColumn("REQUEST", Set::Flexible),
        TextColumn("DOES", Set::Left),
        TextColumn("APPLICATION", Set::Flexible),
        TextColumn("PROCESS", Set::Right),
        TextColumn("INTERPRETER", Set::Flexible),
        TextColumn("THREAD", Set::Right),
    ];
    // The columns at the end are the least important ones.
    columns.truncate(match page.width {
        0..100 => 5,
        100..120 => 6,
        _ => 7,
    });
    let row = |request: &RequestStatus| {
        vec![
            duration(request.age_seconds),
            format!("{} {}", request.method, request.path),
            request.phase.to_owned(),
            request.application.clone(),
            request.pid.to_string(),
            interpreter_of(request),
            request.thread.to_string(),
        ]
    };
    let shown: Vec<_> = status.running.iter().take(rows).map(row).collect();
    page.table(&columns, &shown);
    more(page, status.running_count, rows);
}

fn more(page: &mut Terminal, all: usize, shown: usize) {
    if all > shown {
        let text = format!("and {} more", count((all - shown) as u64));
        page.paint("2", &text);
        page.out.push('\n');
    }
}

fn applications(page: &mut Terminal, status: &Status) {
    if status.applications.is_empty() {
        return;
    }
    match &status.recent {
        Some(recent) => page.title(format_args!(
            "Applications, last {}",
            span(recent.duration_seconds)
        )),
        None => page.title("Applications"),
    }
    let columns = [
        TextColumn("APPLICATION", Set::Flexible),
        TextColumn("RUN", Set::Right),
        TextColumn("OLDEST", Set::Right),
        TextColumn("PER S", Set::Right),
        TextColumn("FAILED", Set::Right),
        TextColumn("MEDIAN", Set::Right),
        TextColumn("99 %", Set::Right),
        TextColumn("REQUESTS", Set::Right),
        TextColumn("INTERPRETERS", Set::Flexible),
    ];
    let row = |app: &ApplicationStatus| {
        let of = |text: &dyn Fn(&Window) -> String| {
            app.recent.as_ref().map_or_else(|| "–".to_owned(), text)
        };
        vec![
            app.label.clone(),
            count(app.in_flight as u64),
            duration_or_dash(app.oldest_request_seconds),
            of(&|recent| rate(recent.requests_per_second)),
            of(&|recent| percent(recent.error_ratio)),
            of(&|recent| duration_or_dash(recent.p50_seconds)),
            of(&|recent| duration_or_dash(recent.p99_seconds)),
            count(app.since_start.requests),
            states(app),
        ]
    };
    let rows: Vec<_> = status.applications.iter().map(row).collect();
    page.table(&columns, &rows);
}

fn events(page: &mut Terminal, status: &Status, rows: usize) {
    if status.events.is_empty() {
        return;
    }
    page.title("Refused, cut off and slow (times in UTC)");
    let columns = [
        TextColumn("TIME", Set::Left),
        TextColumn("WHAT", Set::Flexible),
        TextColumn("STATUS", Set::Right),
        TextColumn("TOOK", Set::Right),
        TextColumn("IN APP", Set::Right),
        TextColumn("GIL", Set::Right),
        TextColumn("REQUEST", Set::Flexible),
    ];
    let row = |event: &EventStatus| {
        vec![
            calendar(event.timestamp_seconds).1,
            happened(event),
            event
                .status
                .map_or_else(|| "–".to_owned(), |status| status.to_string()),
            duration(event.total_seconds),
            duration(event.application_seconds),
            duration(event.gil_wait_seconds),
            format!("{} {}", event.method, event.path),
        ]
    };
    let shown: Vec<_> = status.events.iter().take(rows).map(row).collect();
    page.table(&columns, &shown);
    more(page, status.events.len(), rows);
}

fn deaths(page: &mut Terminal, status: &Status) {
    if status.deaths.is_empty() {
        return;
    }
    page.title("Processes that ended unexpectedly (times in UTC)");
    let columns = [
        TextColumn("TIME", Set::Left),
        TextColumn("PROCESS", Set::Right),
        TextColumn("HOW", Set::Left),
        TextColumn("RUNNING", Set::Flexible),
    ];
    let row = |death: &DeathStatus| {
        vec![
            calendar(death.timestamp_seconds).1,
            death.pid.to_string(),
            death.how.clone(),
            death.running.clone(),
        ]
    };
    let rows: Vec<_> = status.deaths.iter().map(row).collect();
    page.table(&columns, &rows);
}

fn children(page: &mut Terminal, status: &Status, rows: usize) {
    let totals = &status.totals;
    page.title(format_args!(
        "Children: {} now; {} started, {} ended, {} killed or crashed",
        count(status.children_count as u64),
        count(totals.children_started),
        count(totals.children_ended),
        count(totals.children_killed)
    ));
    if let Some(roll) = &status.roll {
        page.wrapped("", &roll.text, "");
    }
    if status.children.is_empty() {
        return;
    }
    let columns = [
        TextColumn("CHILD", Set::Right),
        TextColumn("STATE", Set::Flexible),
        TextColumn("RUN", Set::Right),
        TextColumn("MEMORY", Set::Right),
        TextColumn("AGE", Set::Right),
        TextColumn("CODE", Set::Right),
        TextColumn("CONFIGURATION", Set::Right),
    ];
    let shown: Vec<_> = status.children.iter().take(rows).map(process).collect();
    page.table(&columns, &shown);
    more(page, status.children_count, rows);
}

/// Returns the cells of a child, or of a process of a group.
fn process(process: &ChildStatus) -> Vec<String> {
    vec![
        process.pid.to_string(),
        child_state(process),
        count(process.in_flight as u64),
        process.resident_bytes.map_or_else(|| "–".to_owned(), bytes),
        duration(process.age_seconds),
        revision(process),
        process.generation.to_string(),
    ]
}

fn process_groups(page: &mut Terminal, status: &Status, rows: usize) {
    if status.process_groups.is_empty() {
        return;
    }
    page.title("Process groups");
    for group in &status.process_groups {
        page.wrapped("", &process_group(group), "");
    }
    let columns = [
        TextColumn("PROCESS", Set::Right),
        TextColumn("STATE", Set::Flexible),
        TextColumn("RUN", Set::Right),
        TextColumn("MEMORY", Set::Right),
        TextColumn("AGE", Set::Right),
        TextColumn("CODE", Set::Right),
        TextColumn("CONFIGURATION", Set::Right),
        TextColumn("GROUP", Set::Flexible),
    ];
    let all: Vec<_> = status
        .group_processes()
        .map(|(group, of_group)| {
            let mut cells = process(of_group);
            cells.push(group.name.clone());
            cells
        })
        .collect();
    if !all.is_empty() {
        page.table(&columns, &all[..all.len().min(rows)]);
        more(page, all.len(), rows);
    }
    for group in &status.process_groups {
        let title = format!("Application groups of {}", group.name);
        groups(page, &title, &group.groups);
    }
}

fn groups(page: &mut Terminal, title: &str, groups: &[GroupStatus]) {
    if groups.is_empty() {
        return;
    }
    page.title(title);
    let columns = [
        TextColumn("GROUP", Set::Flexible),
        TextColumn("GIL", Set::Left),
        TextColumn("BECAUSE OF", Set::Flexible),
    ];
    let row = |group: &GroupStatus| {
        let name = interpreter(&group.name).to_owned();
        vec![name, gil(group).to_owned(), group.because_of.clone()]
    };
    let chosen = groups.iter().filter(|group| group.gil != "undecided");
    let rows: Vec<_> = chosen.map(row).collect();
    if !rows.is_empty() {
        page.table(&columns, &rows);
    }
    for group in groups.iter().filter(|group| !group.plan.is_empty()) {
        let line = format!("{}: {}", interpreter(&group.name), group.plan);
        page.wrapped("", &line, "");
    }
}

fn server(page: &mut Terminal, status: &Status) {
    let (server, totals) = (&status.server, &status.totals);
    page.title("Server");
    let requests = &totals.requests;
    page.wrapped(
        "",
        &format!(
            "Up {}; {} ({}), {} received, {} sent; {} CPU.",
            duration(server.uptime_seconds),
            plural(requests.requests, "request", "requests"),
            listed(&totals.by_class),
            bytes(totals.request_body_bytes),
            bytes(totals.response_body_bytes),
            duration(totals.cpu_user_seconds + totals.cpu_system_seconds),
        ),
        "",
    );
    let known = [
        ("", &server.httpd),
        ("mod_wsgi_rs ", &server.version),
        ("Python ", &server.python),
        ("MPM ", &server.mpm),
    ];
    let known = known.iter().filter(|(_, value)| !value.is_empty());
    let known: Vec<String> = known
        .map(|(name, value)| format!("{name}{value}"))
        .collect();
    page.wrapped("", &known.join(" · "), "");
}
