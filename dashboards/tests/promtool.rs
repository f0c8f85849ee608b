use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use wsgi_dashboards::alerts::alerts;
use wsgi_dashboards::files;
use wsgi_dashboards::parameters::Parameters;

fn promtool(folder: &Path, arguments: &[&str]) -> Output {
    match Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "promtool is not installed; on Debian and Ubuntu it is in the package prometheus"
            )
        }
        Err(error) => panic!("cannot run promtool: {error}"),
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Returns a folder with what the generator writes, each file passed through `change` with its name.
fn folder(change: impl Fn(&str, String) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files(&Parameters::default()) {
        let text = change(&name, text);
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn rules_and_configuration_are_accepted() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = promtool(
        here,
        &["check", "rules", "recording-rules.yml", "alert-rules.yml"],
    );
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        said(&output).matches("SUCCESS").count(),
        2,
        "{}",
        said(&output)
    );
    let output = promtool(here, &["check", "config", "prometheus.yml"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("2 rule files found"),
        "{}",
        said(&output)
    );
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let folder = folder(|_, text| text);
    let output = promtool(folder.path(), &["test", "rules", "rules-test.yml"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Rules that hold for another job hold as well.
#[test]
fn tests_hold_for_another_job() {
    let folder = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        job: "web".into(),
        runbook: "https://example.org/book".into(),
        ..Parameters::default()
    };
    for (name, text) in files(&parameters) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let output = promtool(folder.path(), &["test", "rules", "rules-test.yml"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Each alert in turn never fires, and then always: the cases have to notice both.
#[test]
fn broken_alerts_are_noticed() {
    for broken in ["vector(0) > 1", "vector(1)"] {
        for alert in alerts() {
            let head = format!("- alert: {}\n    expr: ", alert.name);
            let folder = folder(|name, text| match name {
                "alert-rules.yml" => {
                    let at = text.find(&head).unwrap() + head.len();
                    let end = at + text[at..].find('\n').unwrap();
                    text[..at].to_owned() + broken + &text[end..]
                }
                // The cases of this alert suffice.
                "rules-test.yml" => cases_of(alert.name, &text),
                _ => text,
            });
            let output = promtool(folder.path(), &["test", "rules", "rules-test.yml"]);
            assert!(
                !output.status.success(),
                "{} as {broken} passes its cases",
                alert.name
            );
            assert!(said(&output).contains(alert.name), "{}", said(&output));
        }
    }
}

fn cases_of(alert: &str, text: &str) -> String {
    let mut parts = text.split("- name: ");
    let head = parts.next().unwrap().to_owned();
    parts
        .filter(|part| part.starts_with(&format!("'{alert}:")))
        .fold(head, |text, part| text + "- name: " + part)
}
