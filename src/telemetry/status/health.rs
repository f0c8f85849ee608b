//! The findings: what the numbers mean, in words.

use super::model::{ApplicationStatus, Finding, Health, Level, Status};
use super::units::{count, duration, percent, plural, rate, span};

/// Ages in seconds from which a running request is worth a look, and from which it is trouble.
const OLD: f64 = 30.0;
const STUCK: f64 = 300.0;
/// Age in seconds up to which refused and timed-out requests are reported.
const NEWS: f64 = 300.0;
/// Age in seconds at which the last sample is overdue.
const SILENCE: f64 = 60.0;
/// 99th percentile in seconds from which durations are worth a look.
const SLOW: f64 = 2.0;

impl Health {
    pub(super) fn of(status: &Status) -> Self {
        let mut health = Self::default();
        if !status.measured {
            health.children(status);
            health.roll(status);
            let text = "Nothing is measured here: WSGIMetrics is off.";
            health.add(Level::Ok, text.to_owned());
            health.sort();
            return health;
        }
        health.workers(status);
        health.children(status);
        health.roll(status);
        health.gil(status);
        health.applications(status);
        health.events(status);
        health.metrics(status);
        if health.findings.is_empty() {
            health.add(Level::Ok, all_is_well(status));
        }
        health.sort();
        health
    }

    /// Sorts by urgency, the most urgent first.
    fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.level));
    }

    /// Returns a health with a single finding.
    pub fn only(level: Level, text: String) -> Self {
        let findings = vec![Finding { level, text }];
        Self { level, findings }
    }

    fn add(&mut self, level: Level, text: String) {
        self.level = self.level.max(level);
        self.findings.push(Finding { level, text });
    }

    fn workers(&mut self, status: &Status) {
        let workers = &status.workers;
        let oldest = status.running.first();
        let age = oldest.map_or(0.0, |request| request.age_seconds);
        let told = oldest.map(|oldest| {
            let (method, path, phase) = (oldest.method, &oldest.path, oldest.phase);
            format!("{} ({phase}): {method} {path}", duration(age))
        });
        let full = workers.limit > 0 && workers.busy >= workers.limit;
        if full && workers.idle.unwrap_or(0) == 0 {
            let who = match workers.limit {
                1 => String::from("The only worker is busy"),
                limit => format!("All {} workers are busy", count(limit)),
            };
            let rest = told.map_or_else(
                || String::from("none of them with a WSGI request"),
                |told| format!("the oldest request has been running for {told}"),
            );
            self.add(Level::Trouble, format!("{who}; {rest}."));
            return;
        }
        if workers.limit >= 10 && workers.busy.saturating_mul(10) >= workers.limit.saturating_mul(9)
        {
            let (busy, limit) = (count(workers.busy), count(workers.limit));
            let text = format!("{busy} of {limit} workers are busy.");
            self.add(Level::Notice, text);
        }
        if let Some(told) = told
            && age >= OLD
        {
            let level = if age >= STUCK {
                Level::Trouble
            } else {
                Level::Notice
            };
            let old = status.running.iter();
            let old = old.filter(|request| request.age_seconds >= OLD).count();
            let others = match old {
                1 => String::new(),
                _ => format!(" {old} requests are older than {}.", duration(OLD)),
            };
            let text = format!("The oldest request has been running for {told}.{others}");
            self.add(level, text);
        }
    }

    fn children(&mut self, status: &Status) {
        let in_state = |state| {
            let children = status.children.iter();
            children.filter(|child| child.state == state).count()
        };
        if in_state("ready") == 0 {
            let text = match in_state("starting") {
                0 => String::from("No child is ready to serve requests."),
                1 => String::from("No child is ready yet; one is starting."),
                starting => format!("No child is ready yet; {starting} are starting."),
            };
            self.add(Level::Trouble, text);
        }
        if let failed @ 1.. = in_state("not_ready") {
            let who = plural(failed as u64, "child", "children");
            let text = format!(
                "{who} could not load the application and left connections to others; see the error log."
            );
            self.add(Level::Notice, text);
        }
        let former = status
            .children
            .iter()
            .filter(|child| child.generation < status.server.config_generation)
            .count();
        if former > 0 {
            let who = plural(former as u64, "child", "children");
            let text = format!(
                "{who} of the configuration before the last restart still finish requests."
            );
            self.add(Level::Notice, text);
        }
    }

    fn roll(&mut self, status: &Status) {
        if let Some(roll) = &status.roll
            && roll.phase == "stopped"
        {
            self.add(Level::Notice, roll.text.clone());
        }
    }

    fn gil(&mut self, status: &Status) {
        let running = status.running.len();
        let waiting = status
            .running
            .iter()
            .filter(|request| request.phase == crate::Phase::WaitingForGil.text())
            .count();
        if waiting >= 2 && waiting * 2 >= running {
            let text = format!(
                "{waiting} of {running} running requests wait for the GIL, which other code of their process holds."
            );
            self.add(Level::Trouble, text);
        }
    }

    fn applications(&mut self, status: &Status) {
        for application in &status.applications {
            let name = &application.label;
            let failed = application.interpreters.get("failed").copied().unwrap_or(0);
            if let Ok(failed @ 1..) = u64::try_from(failed) {
                let where_ = plural(failed, "interpreter", "interpreters");
                let text = format!("{name} could not be loaded in {where_}; see the error log.");
                self.add(Level::Trouble, text);
            }
            self.recent(application);
        }
    }

    fn recent(&mut self, application: &ApplicationStatus) {
        let Some(recent) = &application.recent else {
            return;
        };
        let name = &application.label;
        let span = span(recent.duration_seconds);
        if recent.errors > 0 {
            let level = if recent.error_ratio >= 0.05 && recent.errors >= 5 {
                Level::Trouble
            } else {
                Level::Notice
            };
            let (errors, requests) = (count(recent.errors), count(recent.requests));
            let share = percent(recent.error_ratio);
            let text = format!(
                "{name}: {errors} of {requests} requests failed in the last {span} ({share})."
            );
            self.add(level, text);
        }
        if let Some(p99) = recent.p99_seconds
            && p99 >= SLOW
        {
            let text = format!(
                "{name} is slow: 1 % of its requests took longer than {} in the last {span}.",
                duration(p99)
            );
            self.add(Level::Notice, text);
        }
    }

    fn events(&mut self, status: &Status) {
        for (kind, level, what) in [
            ("rejected", Level::Trouble, "refused"),
            ("timed_out", Level::Trouble, "cut off by a limit of time"),
        ] {
            let mut details: Vec<(&str, u64)> = Vec::new();
            let news = status.events.iter();
            for event in news.filter(|event| event.kind == kind && event.age_seconds <= NEWS) {
                match details
                    .iter_mut()
                    .find(|(detail, _)| *detail == event.detail)
                {
                    Some((_, number)) => *number += 1,
                    None => details.push((event.detail, 1)),
                }
            }
            let total = details.iter().map(|(_, number)| number).sum::<u64>();
            if total == 0 {
                continue;
            }
            let details: Vec<String> = details
                .iter()
                .map(|(detail, number)| match detail.replace('_', " ") {
                    only if *number == total => only,
                    other => format!("{other} {}", count(*number)),
                })
                .collect();
            let who = plural(total, "request was", "requests were");
            let (span, why) = (duration(NEWS), details.join(", "));
            let text = format!("{who} {what} in the last {span} ({why}).");
            self.add(level, text);
        }
    }

    fn metrics(&mut self, status: &Status) {
        if let Some(age) = status.segment.last_sample_age_seconds
            && age >= SILENCE
        {
            let text = format!(
                "httpd's parent process has taken no sample for {}; it may hang.",
                duration(age)
            );
            self.add(Level::Notice, text);
        }
        for (what, _) in status.segment.overflows.iter().filter(|(_, n)| **n > 0) {
            let text = match *what {
                "arena" => {
                    "There was no room for every thread to count by itself; numbers are right, but \
 running requests may be missing."
                }
                "application" => {
                    "There was no room for every application; some are counted as _other."
                }
                _ => {
                    "There was no room for every metric of the applications' own; some are counted as overflow."
                }
            };
            self.add(Level::Notice, text.to_owned());
        }
    }
}

fn all_is_well(status: &Status) -> String {
    let workers = &status.workers;
    let busy = match workers.limit {
        0 => format!("{} busy", plural(workers.busy, "worker is", "workers are")),
        limit => format!(
            "{} of {} workers are busy",
            count(workers.busy),
            count(limit)
        ),
    };
    match &status.recent {
        None => format!("{busy}."),
        Some(recent) if recent.requests == 0 => {
            format!(
                "{busy}, no requests in the last {}.",
                span(recent.duration_seconds)
            )
        }
        Some(recent) => {
            let slow = recent
                .p99_seconds
                .map(|p99| format!(", 99 % of them within {}", duration(p99)))
                .unwrap_or_default();
            let per_second = rate(recent.requests_per_second);
            format!("{busy}, {per_second} requests per second{slow}, none failed.")
        }
    }
}
