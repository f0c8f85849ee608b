//! Directives for daemon processes, which this module does not have (1.5 and 3). Their arguments are checked, so that a
//! mistake shows as it would under mod_wsgi; the requests are served in the httpd children.

use super::arguments::{ON_OFF, one, option, parse_on_off};
use super::directive::{Context, Directive, Effect, Target};
use crate::config::DaemonProcess;
use crate::config::conf_words::Words;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIDaemonProcess",
        context: Context::Server,
        syntax: "name [option=value ...]",
        default: "",
        help: "Defines a group of daemon processes that applications may be delegated to.",
        example: "WSGIDaemonProcess site processes=2 threads=15 display-name=%{GROUP}\nWSGIScriptAlias / /srv/site/wsgi.py process-group=site",
        difference: "The options are checked as mod_wsgi checks them.",
        effect: Effect::Daemon,
        parse: daemon_process,
        ..ON_OFF
    },
    Directive {
        name: "WSGISocketPrefix",
        syntax: "path-prefix",
        default: "wsgi in the run-time directory",
        help: "Sets where the sockets of daemon processes are.",
        example: "WSGISocketPrefix /run/wsgi",
        effect: Effect::Daemon,
        parse: |args, _| match one(args)?.as_str() {
            "" => Err("'' is not a path".into()),
            _ => Ok(()),
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGISocketRotation",
        default: "On",
        help: "On: the sockets of daemon processes have another name after each restart.",
        example: "WSGISocketRotation Off",
        effect: Effect::Daemon,
        ..ON_OFF
    },
    Directive {
        name: "WSGIAcceptMutex",
        syntax: "default|flock|fcntl|sysvsem|posixsem|pthread",
        default: "default",
        help: "Sets how daemon processes of one group take turns in accepting requests.",
        example: "WSGIAcceptMutex default",
        effect: Effect::Daemon,
        parse: |args, _| {
            let word = one(args)?;
            let known = MUTEXES
                .iter()
                .any(|mutex| mutex.eq_ignore_ascii_case(&word));
            known
                .then_some(())
                .ok_or_else(|| format!("'{word}' is none of {}", MUTEXES.join(", ")))
        },
        ..ON_OFF
    },
];

/// What an option accepts as its value.
#[derive(Clone, Copy)]
enum Value {
    /// A text that is not empty.
    Text,
    /// An absolute path.
    AbsolutePath,
    /// An octal number.
    Octal,
    OnOff,
    /// A number above 0, with fractions.
    Positive,
    /// An integer from the first to the second.
    Integer(i64, i64),
    /// 0, or an integer of at least this.
    ZeroOr(i64),
}

fn daemon_process(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let name = words
        .next()
        .filter(|name| !name.is_empty())
        .ok_or("the name of the group is missing")?;
    let mut owner_of_script = None;
    while !words.is_empty() {
        let (option, value) = option(&mut words)?;
        let Some((_, kind)) = OPTIONS.iter().find(|(known, _)| *known == option) else {
            return Err(format!("'{option}' is not an option of a daemon process"));
        };
        check(*kind, &value).map_err(|wanted| format!("{option}: '{value}' is not {wanted}"))?;
        if option == "script-user" || option == "script-group" {
            match owner_of_script {
                Some(other) if other != option => {
                    return Err("script-user and script-group exclude each other".into());
                }
                _ => owner_of_script = Some(option),
            }
        }
    }
    target.server()?.daemon_processes.push(DaemonProcess {
        name,
        location: String::new(),
    });
    Ok(())
}

fn check(kind: Value, value: &str) -> Result<(), String> {
    let integer = value.parse::<i64>().ok();
    let (valid, wanted) = match kind {
        Value::Text => (!value.is_empty(), "a text".into()),
        Value::AbsolutePath => (value.starts_with('/'), "an absolute path".into()),
        Value::Octal => (
            u32::from_str_radix(value, 8).is_ok_and(|mask| mask <= 0o777),
            "an octal number".into(),
        ),
        Value::OnOff => (parse_on_off(value).is_ok(), "On or Off".into()),
        Value::Positive => {
            let number = value.parse::<f64>();
            (
                number.is_ok_and(|number| number.is_finite() && number > 0.0),
                "a positive number".into(),
            )
        }
        Value::Integer(least, i64::MAX) => (
            integer.is_some_and(|number| number >= least),
            format!("an integer from {least} on"),
        ),
        Value::Integer(least, most) => (
            integer.is_some_and(|number| (least..=most).contains(&number)),
            format!("an integer from {least} to {most}"),
        ),
        Value::ZeroOr(least) => (
            integer.is_some_and(|number| number == 0 || number >= least),
            format!("0 or an integer from {least} on"),
        ),
    };
    valid.then_some(()).ok_or(wanted)
}

const MUTEXES: &[&str] = &[
    "default", "flock", "fcntl", "sysvsem", "posixsem", "pthread",
];

const COUNT: Value = Value::Integer(0, i64::MAX);

const OPTIONS: &[(&str, Value)] = &[
    ("user", Value::Text),
    ("group", Value::Text),
    ("supplementary-groups", Value::Text),
    ("processes", Value::Integer(1, i64::MAX)),
    ("threads", Value::Integer(0, 65533)),
    ("umask", Value::Octal),
    ("chroot", Value::AbsolutePath),
    ("home", Value::AbsolutePath),
    ("lang", Value::Text),
    ("locale", Value::Text),
    ("python-home", Value::Text),
    ("python-path", Value::Text),
    ("python-eggs", Value::Text),
    ("switch-interval", Value::Positive),
    ("stack-size", Value::Integer(1, i64::MAX)),
    ("maximum-requests", COUNT),
    ("startup-timeout", COUNT),
    ("shutdown-timeout", COUNT),
    ("graceful-timeout", COUNT),
    ("eviction-timeout", COUNT),
    ("deadlock-timeout", COUNT),
    ("inactivity-timeout", COUNT),
    ("request-timeout", COUNT),
    ("interrupt-timeout", COUNT),
    ("restart-interval", COUNT),
    ("cpu-time-limit", COUNT),
    ("cpu-priority", Value::Integer(i64::MIN, i64::MAX)),
    ("memory-limit", COUNT),
    ("virtual-memory-limit", COUNT),
    ("connect-timeout", COUNT),
    ("socket-timeout", COUNT),
    ("queue-timeout", COUNT),
    ("listen-backlog", COUNT),
    ("display-name", Value::Text),
    ("send-buffer-size", Value::ZeroOr(512)),
    ("receive-buffer-size", Value::ZeroOr(512)),
    ("header-buffer-size", Value::ZeroOr(8192)),
    ("response-buffer-size", Value::ZeroOr(65536)),
    ("response-flush-delay", COUNT),
    ("response-socket-timeout", COUNT),
    ("socket-user", Value::Text),
    ("script-user", Value::Text),
    ("script-group", Value::Text),
    ("server-metrics", Value::OnOff),
];
