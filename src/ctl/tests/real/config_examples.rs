//! Every file of `config-examples/` starts unchanged and serves the pages that it promises.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::stage::{Stage, apxs, workspace};
use crate::subject::{Subject, free_port};

/// File, and URL paths with a part of the expected body.
const EXAMPLES: [(&str, &[(&str, &str)]); 13] = [
    ("event.conf", &[("/", "Hello from the group ''")]),
    ("worker.conf", &[("/", "Hello from the group ''")]),
    ("prefork.conf", &[("/", "Hello from the group ''")]),
    ("virtualenv.conf", &[("/", "/venv")]),
    (
        "several-applications.conf",
        &[
            ("/", "Hello from the group ''"),
            ("/second", "The second application, in the group 'second'"),
            ("/hello/again", "Hello again from the group ''"),
        ],
    ),
    ("replicas.conf", &[("/", "Hello from the group 'site'")]),
    (
        "pools.conf",
        &[
            ("/", "Hello from the group 'site'"),
            ("/reports", "The second application, in the group 'reports'"),
        ],
    ),
    ("reload.conf", &[("/", "Hello from the group ''")]),
    (
        "static-files.conf",
        &[
            ("/", "Hello"),
            ("/static/style.css", "color"),
            ("/robots.txt", "User-agent"),
        ],
    ),
    (
        "metrics.conf",
        &[
            ("/", "Hello from the group ''"),
            (
                "/metrics",
                "wsgi_requests_total{app=\"/\",method=\"GET\",code=\"2xx\"} 1",
            ),
            ("/wsgi-status", "WSGI status"),
        ],
    ),
    ("daemon.conf", &[("/", "Hello from the group ''")]),
    ("two-sites-two-pythons.conf", &[("/", "/venv")]),
    ("from-mod_wsgi.conf", &[("/", "Hello from the group ''")]),
];

/// The virtual environments in the site's folder, and the examples that use them.
const ENVIRONMENTS: [(&str, &[&str]); 2] = [
    (
        "venv",
        &[
            "virtualenv.conf",
            "two-sites-two-pythons.conf",
            "from-mod_wsgi.conf",
        ],
    ),
    ("other-venv", &["two-sites-two-pythons.conf"]),
];

#[test]
fn every_example_serves_its_pages() {
    for (file, pages) in EXAMPLES {
        let stage = Stage::new();
        let site = stage.copy_tree(&workspace().join("config-examples/site"), "site");
        for (name, uses) in ENVIRONMENTS {
            if uses.contains(&file) {
                make_environment(&site.join(name));
            }
        }
        let port = free_port();
        let server = Subject::start(httpd(file, &stage, &site, port), port, stage.path());
        for (path, expected) in pages {
            let body = server.page(path);
            assert!(body.contains(expected), "{file} {path}: {body}");
        }
        server.end(Signal::TERM);
    }
}

#[test]
fn no_example_is_left_out() {
    let mut found: Vec<String> = fs::read_dir(workspace().join("config-examples"))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".conf"))
        .collect();
    let mut tested = EXAMPLES.map(|(file, _)| file.to_owned()).to_vec();
    found.sort();
    tested.sort();
    assert_eq!(found, tested);
    let readme = fs::read_to_string(workspace().join("config-examples/README.md")).expect("text");
    for name in found {
        assert!(readme.contains(&name), "README.md says nothing of {name}");
    }
}

fn httpd(file: &str, stage: &Stage, site: &Path, port: u16) -> Command {
    let mut command = Command::new(format!("{}/{}", apxs("SBINDIR"), apxs("PROGNAME")));
    let user = ["www-data", "apache", "nobody"].into_iter().find(|user| {
        Command::new("id")
            .args(["-u", user])
            .output()
            .is_ok_and(|output| output.status.success())
    });
    let user = user.expect("a user for httpd");
    let group = Command::new("id")
        .args(["-gn", user])
        .output()
        .expect("id runs");
    let group = String::from_utf8_lossy(&group.stdout).trim().to_owned();
    for (name, value) in [
        ("MODULES", apxs("LIBEXECDIR")),
        ("WSGI_MODULE", stage.module().display().to_string()),
        ("SITE", site.display().to_string()),
        ("RUN", stage.path().display().to_string()),
        ("LISTEN", format!("127.0.0.1:{port}")),
        ("ONE_USER", user.to_owned()),
        ("ONE_GROUP", group.clone()),
        ("TWO_USER", user.to_owned()),
        ("TWO_GROUP", group.clone()),
        (
            "METRICS_LISTEN",
            format!("unix:{}", stage.path().join("metrics.sock").display()),
        ),
        ("SERVER_USER", user.to_owned()),
        ("SERVER_GROUP", group.clone()),
    ] {
        command.arg("-C").arg(format!("Define {name} {value}"));
    }
    command
        .arg("-f")
        .arg(workspace().join("config-examples").join(file))
        .arg("-DFOREGROUND");
    command
}

fn make_environment(folder: &Path) {
    let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let status = Command::new(python)
        .args(["-m", "venv", "--without-pip"])
        .arg(folder)
        .status()
        .expect("Python runs");
    assert!(status.success());
}
