//! The runbook: an entry for each alert, and an introduction.

use crate::alerts::alerts;
use crate::dashboards;
use crate::parameters::Parameters;

/// The heading of the part for readers without an alert.
pub const BEGIN: &str = "Where to begin";

/// Returns the content of `runbook.md`.
pub fn runbook(parameters: &Parameters) -> String {
    let mut text = format!(
        "<!-- Made by `cargo run -p wsgi-dashboards`: edit dashboards/generator instead. -->\n\
         # Runbook\n\n\
         What each alert means, where to look, and what to do. Panels are named as *dashboard › panel*.\n\n\
         ## {BEGIN}\n\n\
         1. *Overview*: is it errors (*Error ratio*) or slowness (*Latency p50 / p95 / p99*)? A blue line in a panel is a new\n\
         \x20  configuration, a red one a killed child.\n\
         2. *Overview › Where the time goes*: the highest line is where to look next.\n\
         \x20  Before Python, or waiting for the GIL: *Interpreters and GIL*. In the application: the status page and the\n\
         \x20  application's own log. Reading or writing: clients.\n\
         3. *Server and MPM*: children that come and go, workers that run out, memory, and whether the numbers can be trusted.\n\
         4. What runs at this moment: `/wsgi-status` on the server, or `wsgictl top` there. What was logged: httpd's error log;\n\
         \x20  `LogLevel wsgi:info` makes the module say more.\n\n\
         | alert | severity | in short |\n|---|---|---|\n"
    );
    for alert in alerts() {
        text += &format!(
            "| [{}](#{}) | {} | {} |\n",
            alert.name,
            alert.name.to_lowercase(),
            alert.severity.label(),
            first_sentence(alert.meaning)
        );
    }
    for alert in alerts() {
        let wait = match alert.wait {
            "0m" => "at once".to_owned(),
            wait => format!("when this holds for {wait}"),
        };
        text += &format!(
            "\n## {}\n\n{}\n\nSeverity {}, {wait}:\n\n```promql\n{}\n```\n\nWhere to look:\n\n",
            alert.name,
            alert.meaning,
            alert.severity.label(),
            (alert.expr)(parameters),
        );
        for (dashboard, panel, what) in alert.look {
            text += &format!("- *{} › {panel}*: {what}\n", title(dashboard));
        }
        text += "\nWhat to do:\n\n";
        for (number, step) in alert.steps.iter().enumerate() {
            text += &format!("{}. {step}\n", number + 1);
        }
    }
    text
}

fn title(name: &str) -> &str {
    dashboards()
        .into_iter()
        .find(|dashboard| dashboard.name == name)
        .map_or(name, |dashboard| {
            dashboard.title.trim_start_matches("WSGI / ")
        })
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}
