//! Tests of every option of `WSGIDaemonProcess`.

use std::collections::BTreeSet;

use super::*;
use crate::config::ServerConfig;

const YEAR: Duration = Duration::from_secs(31_536_000);

fn set_line(name: &str, args: &str) -> Result<ServerConfig, String> {
    let mut server = ServerConfig::default();
    let directive = DIRECTIVES.iter().find(|row| row.name == name);
    let directive = directive.ok_or("no such directive")?;
    let mut target = Target::Server(&mut server);
    directive.set(args, &mut target).map(|()| server)
}

/// Returns the group 'site' with these options. The error lacks the name of the directive.
fn group(options: &str) -> Result<ProcessGroup, String> {
    let mut server =
        set_line("WSGIDaemonProcess", &format!("site {options}")).map_err(|problem| {
            let prefix = "WSGIDaemonProcess: ";
            problem.strip_prefix(prefix).unwrap_or(&problem).to_owned()
        })?;
    assert_eq!(server.process_groups.len(), 1, "{options}");
    server.process_groups.pop().ok_or("no group".into())
}

/// The group 'site' without options.
fn plain() -> ProcessGroup {
    ProcessGroup {
        name: "site".into(),
        ..ProcessGroup::default()
    }
}

/// Changes the group without options into the expected one.
type Change = fn(&mut ProcessGroup);

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// The option needs no effect; which one is only known where the line is.
fn needless(group: &mut ProcessGroup) {
    group.needless.push(("", ""));
}

/// Values of every option, and the group that they make.
const VALUES: &[(&str, Change)] = &[
    ("user=www", |group| group.user = Some("www".into())),
    ("user=#33", |group| group.user = Some("#33".into())),
    ("group='my group'", |group| {
        group.group = Some("my group".into());
    }),
    ("group=#33", |group| group.group = Some("#33".into())),
    ("supplementary-groups=a,#7,,b", |group| {
        group.supplementary_groups = vec!["a".into(), "#7".into(), "b".into()];
    }),
    ("processes=1", |group| group.processes = Some(1)),
    ("processes=1000", |group| {
        group.processes = Some(1000);
    }),
    ("threads=0", |group| group.threads = 0),
    ("threads=1", |group| group.threads = 1),
    ("threads=65533", |group| group.threads = 65533),
    ("umask=0", |group| group.umask = Some(0)),
    ("umask=0022", |group| group.umask = Some(0o22)),
    ("umask=777", |group| group.umask = Some(0o777)),
    ("chroot=/", |group| group.chroot = Some("/".into())),
    ("home='/srv/my site'", |group| {
        group.home = Some("/srv/my site".into());
    }),
    ("lang=en_US.UTF-8", |group| {
        group.lang = Some("en_US.UTF-8".into());
    }),
    ("locale=C.UTF-8", |group| {
        group.locale = Some("C.UTF-8".into());
    }),
    ("python-home=/venv", |group| {
        group.python_home = Some("/venv".into());
    }),
    ("python-path=/a::/b:", |group| {
        group.python_path = vec!["/a".into(), "/b".into()];
    }),
    ("python-path=:", |_| {}),
    ("python-eggs=/eggs", |group| {
        group.python_eggs = Some("/eggs".into());
    }),
    ("switch-interval=0.001", |group| {
        group.switch_interval = Some(0.001);
    }),
    ("stack-size=1", |group| group.stack_size = Some(1)),
    ("stack-size=524288", |group| {
        group.stack_size = Some(512 << 10);
    }),
    ("maximum-requests=0", |_| {}),
    ("maximum-requests=1", |group| group.maximum_requests = 1),
    ("maximum-requests=9223372036854775807", |group| {
        group.maximum_requests = i64::MAX.unsigned_abs();
    }),
    ("startup-timeout=0", |group| {
        group.startup_timeout = Some(None);
    }),
    ("startup-timeout=1", |group| {
        group.startup_timeout = Some(Some(SECONDS(1)));
    }),
    ("shutdown-timeout=0", |group| {
        group.shutdown_timeout = Some(Duration::ZERO);
    }),
    ("shutdown-timeout=1", |group| {
        group.shutdown_timeout = Some(SECONDS(1));
    }),
    ("graceful-timeout=0", |group| {
        group.graceful_timeout = Some(Duration::ZERO);
    }),
    ("graceful-timeout=1", |group| {
        group.graceful_timeout = Some(SECONDS(1));
    }),
    ("eviction-timeout=0", |_| {}),
    ("eviction-timeout=1", |group| {
        group.eviction_timeout = Some(SECONDS(1));
    }),
    ("deadlock-timeout=0", |group| {
        group.deadlock_timeout = Some(None);
    }),
    ("deadlock-timeout=1", |group| {
        group.deadlock_timeout = Some(Some(SECONDS(1)));
    }),
    ("inactivity-timeout=0", |_| {}),
    ("inactivity-timeout=1", |group| {
        group.inactivity_timeout = Some(SECONDS(1));
    }),
    ("request-timeout=0", |_| {}),
    ("request-timeout=1", |group| {
        group.request_timeout = Some(SECONDS(1));
    }),
    ("interrupt-timeout=0", |_| {}),
    ("interrupt-timeout=1", |group| {
        group.interrupt_timeout = Some(SECONDS(1));
    }),
    ("restart-interval=0", |_| {}),
    ("restart-interval=31535999", |group| {
        group.restart_interval = Some(YEAR - SECONDS(1));
    }),
    ("restart-interval=31536000", |group| {
        group.restart_interval = Some(YEAR);
    }),
    ("restart-interval=31536001", |group| {
        group.restart_interval = Some(YEAR);
    }),
    ("restart-interval=9223372036854775807", |group| {
        group.restart_interval = Some(YEAR);
    }),
    ("cpu-time-limit=0", |_| {}),
    ("cpu-time-limit=1", |group| {
        group.cpu_time_limit = Some(SECONDS(1));
    }),
    ("cpu-priority=-2147483648", |group| {
        group.cpu_priority = Some(i32::MIN);
    }),
    ("cpu-priority=0", |group| group.cpu_priority = Some(0)),
    ("cpu-priority=2147483647", |group| {
        group.cpu_priority = Some(i32::MAX);
    }),
    ("memory-limit=0", |_| {}),
    ("memory-limit=1", |group| group.memory_limit = Some(1)),
    ("virtual-memory-limit=0", |_| {}),
    ("virtual-memory-limit=9223372036854775807", |group| {
        group.virtual_memory_limit = Some(i64::MAX.unsigned_abs());
    }),
    ("connect-timeout=0", |group| {
        group.connect_timeout = Some(Duration::ZERO);
    }),
    ("connect-timeout=1", |group| {
        group.connect_timeout = Some(SECONDS(1));
    }),
    ("socket-timeout=0", |_| {}),
    ("socket-timeout=1", |group| {
        group.socket_timeout = Some(SECONDS(1));
    }),
    ("queue-timeout=0", |_| {}),
    ("queue-timeout=45", |group| {
        group.queue_timeout = Some(SECONDS(45));
    }),
    ("listen-backlog=0", |group| group.listen_backlog = 0),
    ("listen-backlog=4294967295", |group| {
        group.listen_backlog = u32::MAX;
    }),
    ("display-name=%{GROUP}", |group| {
        group.display_name = Some("%{GROUP}".into());
    }),
    ("send-buffer-size=0", |_| {}),
    ("send-buffer-size=512", |group| {
        group.send_buffer_size = Some(512);
    }),
    ("send-buffer-size=513", |group| {
        group.send_buffer_size = Some(513);
    }),
    ("receive-buffer-size=0", |_| {}),
    ("receive-buffer-size=512", |group| {
        group.receive_buffer_size = Some(512);
    }),
    ("header-buffer-size=0", needless),
    ("header-buffer-size=8192", needless),
    ("response-buffer-size=0", needless),
    ("response-buffer-size=65536", needless),
    ("response-flush-delay=0", needless),
    ("response-flush-delay=9223372036854775807", needless),
    ("response-socket-timeout=0", |_| {}),
    ("response-socket-timeout=1", |group| {
        group.response_socket_timeout = Some(SECONDS(1));
    }),
    ("socket-user=#99", |group| {
        group.socket_user = Some("#99".into());
    }),
    ("script-user=www", |group| {
        group.script_owner = Some(ScriptOwner::User("www".into()));
    }),
    ("script-group=#33", |group| {
        group.script_owner = Some(ScriptOwner::Group("#33".into()));
    }),
    ("server-metrics=On", |group| group.server_metrics = true),
    ("server-metrics=off", |_| {}),
];

#[test]
fn values_of_options_stand_in_their_fields() {
    assert_eq!(group(""), Ok(plain()));
    let mut changed = BTreeSet::new();
    for (written, change) in VALUES {
        let mut expected = plain();
        change(&mut expected);
        let option = written.split('=').next().unwrap_or_default();
        let mut found = group(written);
        for needless in found.iter_mut().flat_map(|group| &mut group.needless) {
            assert!(
                needless.0 == option && needless.1.len() > 20,
                "{needless:?}"
            );
            *needless = ("", "");
        }
        assert_eq!(found, Ok(expected.clone()), "{written}");
        if expected != plain() {
            changed.insert(option);
        }
    }
    let options: BTreeSet<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(options.len(), OPTIONS.len(), "an option is a row twice");
    assert_eq!(changed, options, "each option changes a field");
}

#[test]
fn the_options_of_a_line_add_up_and_of_one_option_the_last_value_holds() {
    let found = group("processes=2 threads=0 home=/a processes=3 threads=4");
    let expected = ProcessGroup {
        processes: Some(3),
        threads: 4,
        home: Some("/a".into()),
        ..plain()
    };
    assert_eq!(found, Ok(expected));
    for line in [
        "inactivity-timeout=5 inactivity-timeout=0",
        "server-metrics=On server-metrics=Off",
        "send-buffer-size=512 send-buffer-size=0",
    ] {
        assert_eq!(group(line), Ok(plain()), "{line}");
    }
}

#[test]
fn wrong_values_are_named_with_what_is_wanted() {
    const TEXTS: &[&str] = &[
        "user",
        "group",
        "supplementary-groups",
        "lang",
        "locale",
        "python-home",
        "python-path",
        "python-eggs",
        "display-name",
        "socket-user",
        "script-user",
        "script-group",
    ];
    const FROM_ZERO: &[&str] = &[
        "maximum-requests",
        "startup-timeout",
        "shutdown-timeout",
        "graceful-timeout",
        "eviction-timeout",
        "deadlock-timeout",
        "inactivity-timeout",
        "request-timeout",
        "interrupt-timeout",
        "restart-interval",
        "cpu-time-limit",
        "memory-limit",
        "virtual-memory-limit",
        "connect-timeout",
        "socket-timeout",
        "queue-timeout",
        "listen-backlog",
        "response-flush-delay",
        "response-socket-timeout",
    ];
    let mut cases: Vec<(&str, &str, &str)> = vec![
        ("processes", "0", "an integer from 1 to 1000"),
        ("processes", "-1", "an integer from 1 to 1000"),
        ("processes", "5x", "an integer from 1 to 1000"),
        ("processes", "1001", "an integer from 1 to 1000"),
        ("threads", "-1", "an integer from 0 to 65533"),
        ("threads", "65534", "an integer from 0 to 65533"),
        ("threads", "", "an integer from 0 to 65533"),
        ("umask", "1000", "an octal number"),
        ("umask", "8", "an octal number"),
        ("umask", "-1", "an octal number"),
        ("umask", "", "an octal number"),
        ("chroot", "rel", "an absolute path"),
        ("chroot", "", "an absolute path"),
        ("home", "rel", "an absolute path"),
        ("home", "", "an absolute path"),
        ("switch-interval", "0", "a positive number"),
        ("switch-interval", "-0.1", "a positive number"),
        ("switch-interval", "inf", "a positive number"),
        ("switch-interval", "nan", "a positive number"),
        ("switch-interval", "", "a positive number"),
        ("stack-size", "0", "an integer from 1 on"),
        ("stack-size", "9223372036854775808", "an integer from 1 on"),
        (
            "listen-backlog",
            "4294967296",
            "an integer from 0 to 4294967295",
        ),
        (
            "cpu-priority",
            "-2147483649",
            "an integer from -2147483648 to 2147483647",
        ),
        (
            "cpu-priority",
            "2147483648",
            "an integer from -2147483648 to 2147483647",
        ),
        (
            "cpu-priority",
            "low",
            "an integer from -2147483648 to 2147483647",
        ),
        ("server-metrics", "1", "On or Off"),
        ("server-metrics", "", "On or Off"),
    ];
    for name in TEXTS {
        cases.push((name, "", "a text"));
    }
    for name in FROM_ZERO {
        for value in ["-1", "9223372036854775808", "60s", "1.5", ""] {
            cases.push((name, value, "an integer from 0 on"));
        }
    }
    for (name, values, wanted) in [
        (
            "send-buffer-size",
            ["-1", "1", "511"],
            "0 or an integer from 512 on",
        ),
        (
            "receive-buffer-size",
            ["-1", "1", "511"],
            "0 or an integer from 512 on",
        ),
        (
            "header-buffer-size",
            ["-1", "1", "8191"],
            "0 or an integer from 8192 on",
        ),
        (
            "response-buffer-size",
            ["-1", "1", "65535"],
            "0 or an integer from 65536 on",
        ),
    ] {
        cases.extend(values.map(|value| (name, value, wanted)));
    }
    for (name, value, wanted) in &cases {
        assert_eq!(
            group(&format!("{name}={value}")),
            Err(format!("{name}: '{value}' is not {wanted}"))
        );
    }
    let refused: BTreeSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let options: BTreeSet<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused, options, "each option has values that it refuses");
}

#[test]
fn a_script_has_one_kind_of_owner() {
    let both = Err("script-user and script-group exclude each other".into());
    assert_eq!(group("script-user=a script-group=b"), both);
    assert_eq!(group("script-group=a script-user=b"), both);
    let last = ProcessGroup {
        script_owner: Some(ScriptOwner::User("b".into())),
        ..plain()
    };
    assert_eq!(group("script-user=a script-user=b"), Ok(last));
    assert_eq!(
        group("script-user=a script-group="),
        Err("script-group: '' is not a text".into())
    );
}

#[test]
fn sockets_have_a_prefix_and_the_word_for_their_rotation_is_checked() {
    let sockets = |name, args| set_line(name, args).map(|server| server.sockets);
    assert_eq!(ServerConfig::default().sockets.prefix, None);
    let prefix = sockets("WSGISocketPrefix", "/run/wsgi").map(|sockets| sockets.prefix);
    assert_eq!(prefix, Ok(Some("/run/wsgi".into())));
    for word in ["On", "off"] {
        assert!(sockets("WSGISocketRotation", word).is_ok(), "{word}");
    }
    assert!(sockets("WSGISocketRotation", "Perhaps").is_err());
}

#[test]
fn the_page_for_users_of_mod_wsgi_names_each_option() {
    let page = include_str!("../../../../docs/mod_wsgi.md");
    let (_, rows) = page.split_once("**M-20.").unwrap_or_default();
    let (rows, _) = rows.split_once("**M-21.").unwrap_or_default();
    let cells = rows.lines().filter_map(|line| line.split('|').nth(1));
    let named: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let options: BTreeSet<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, options);
}
