use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use wsgi_dashboards::alerts::alerts;
use wsgi_dashboards::cases::{CASES, Expected, is_known};
use wsgi_dashboards::parameters::Parameters;
use wsgi_dashboards::{dashboards, files};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn files_are_up_to_date() {
    let mut stale = Vec::new();
    for (name, wanted) in files(&Parameters::default()) {
        if fs::read_to_string(Path::new(FOLDER).join(&name)).ok() != Some(wanted) {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "not what the generator makes: {stale:?}; run `cargo run -p wsgi-dashboards` and commit"
    );
}

/// A file whose row was taken out of the generator would stay, and be believed.
#[test]
fn nothing_else_looks_generated() {
    let made: BTreeSet<_> = files(&Parameters::default())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let by_hand = ["README.md", "prometheus.yml", "Cargo.toml"];
    for entry in fs::read_dir(FOLDER).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() {
            assert!(
                made.contains(&name) || by_hand.contains(&name.as_str()),
                "where does {name} come from?"
            );
        }
    }
}

#[test]
fn links_into_the_runbook_lead_somewhere() {
    let runbook = crate::file("runbook.md");
    let headings: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let mut links = 0;
    for (name, text) in files(&Parameters::default()) {
        let marker = if name == "runbook.md" {
            "](#"
        } else {
            "runbook.md#"
        };
        for (at, _) in text.match_indices(marker) {
            let anchor: String = text[at + marker.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            assert!(
                headings.contains(&anchor),
                "{name}: #{anchor} is not in the runbook"
            );
            links += 1;
        }
    }
    assert!(
        links > 100,
        "only {links} links found: the test reads them wrongly"
    );
}

#[test]
fn panels_named_in_the_runbook_exist() {
    for alert in alerts() {
        assert!(
            !alert.look.is_empty() && !alert.steps.is_empty(),
            "{}: the entry is not complete",
            alert.name
        );
        for (dashboard, panel, _) in alert.look {
            let found = dashboards()
                .into_iter()
                .any(|it| it.name == *dashboard && it.panels().any(|it| it.title == *panel));
            assert!(
                found,
                "{}: there is no panel {panel} on {dashboard}",
                alert.name
            );
        }
    }
}

/// What the runbook and the panels tell people to set has to exist.
#[test]
fn directives_exist() {
    let mut named = 0;
    for (file, text) in files(&Parameters::default()) {
        for (at, _) in text.match_indices("WSGI") {
            let directive: String = text[at..]
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            if directive != "WSGI" {
                assert!(
                    wsgi_core::directives::find(&directive).is_some(),
                    "{file}: there is no directive {directive}"
                );
                named += 1;
            }
        }
    }
    assert!(
        named > 10,
        "only {named} directives found: the test reads them wrongly"
    );
}

#[test]
fn every_alert_is_linked_from_a_panel() {
    for alert in alerts() {
        let linked = dashboards()
            .into_iter()
            .flat_map(|it| it.panels())
            .any(|panel| panel.runbook == alert.name);
        assert!(linked, "no panel leads to {}", alert.name);
    }
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_does_not() {
    for case in CASES {
        assert!(
            is_known(case.subject),
            "{} is neither an alert nor recorded",
            case.subject
        );
    }
    for alert in alerts() {
        let mut cases = CASES.iter().filter(|case| case.subject == alert.name);
        assert!(
            cases
                .clone()
                .any(|case| matches!(case.expected, Expected::Fires(..))),
            "{} never fires",
            alert.name
        );
        assert!(
            cases.any(|case| matches!(case.expected, Expected::Calm)),
            "{} is never calm",
            alert.name
        );
    }
}

#[test]
fn the_address_of_the_runbook_reaches_every_link() {
    let parameters = Parameters {
        runbook: "https://example.org/book".into(),
        ..Parameters::default()
    };
    for (name, text) in files(&parameters) {
        assert!(
            !text.contains("runbook.md#"),
            "{name} has a link to the file"
        );
    }
}

#[test]
fn another_job_reaches_every_rule() {
    let parameters = Parameters {
        job: "web".into(),
        ..Parameters::default()
    };
    for (name, text) in files(&parameters) {
        assert!(
            !text.contains(r#"job="wsgi""#),
            "{name} asks for the default job"
        );
    }
}
