//! Directives for process groups [M-1] [M-20]. Each option of `WSGIDaemonProcess` is a row of one table, [`OPTIONS`], with the
//! function that checks its value and keeps it, so that a mistake shows as it would under mod_wsgi.

use std::time::Duration;

use super::arguments::{ON_OFF, on_off, one, option, parse_on_off};
use super::directive::{Context, Directive, Effect, Target};
use crate::config::conf_words::Words;
use crate::config::deadline::capped;
use crate::config::{ProcessGroup, ScriptOwner};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIDaemonProcess",
        context: Context::Server,
        syntax: "name [option=value ...]",
        default: "",
        help: "Defines a group of daemon processes that applications may be delegated to.",
        example: "WSGIDaemonProcess site processes=2 threads=15 display-name=%{GROUP}\nWSGIScriptAlias / /srv/site/wsgi.py process-group=site",
        difference: "The options are checked as mod_wsgi checks them.",
        effect: Effect::ManyProcesses,
        parse: daemon_process,
        ..ON_OFF
    },
    Directive {
        name: "WSGISocketPrefix",
        syntax: "path-prefix",
        default: "wsgi in the run-time directory",
        help: "Sets where the sockets of daemon processes are.",
        example: "WSGISocketPrefix /run/wsgi",
        parse: |args, target| {
            let prefix = one(args)?;
            if prefix.is_empty() {
                return Err("'' is not a path".into());
            }
            target.server()?.sockets.prefix = Some(prefix);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGISocketRotation",
        default: "On",
        help: "mod_wsgi: whether the sockets of daemon processes have another name after each restart.",
        example: "WSGISocketRotation Off",
        difference: "The sockets stay open over a graceful restart, under the same names, so a request always finds its process.",
        effect: Effect::Nothing("sockets stay open over a graceful restart, under the same names"),
        parse: |args, _| on_off(args).map(drop),
        ..ON_OFF
    },
    Directive {
        name: "WSGIAcceptMutex",
        syntax: "default|flock|fcntl|sysvsem|posixsem|pthread",
        default: "default",
        help: "mod_wsgi: how daemon processes of one group take turns in accepting requests.",
        example: "WSGIAcceptMutex default",
        difference: "Each process has a socket of its own, so none takes turns.",
        effect: Effect::Nothing("each daemon process has a socket of its own"),
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

fn daemon_process(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let name = words
        .next()
        .filter(|name| !name.is_empty())
        .ok_or("the name of the group is missing")?;
    let mut group = ProcessGroup {
        name,
        ..ProcessGroup::default()
    };
    while !words.is_empty() {
        let (option, value) = option(&mut words)?;
        let Some((_, set_option)) = OPTIONS.iter().find(|(known, _)| *known == option) else {
            return Err(format!("'{option}' is not an option of a daemon process"));
        };
        let has_other_owner = match &group.script_owner {
            Some(ScriptOwner::User(_)) => option == "script-group",
            Some(ScriptOwner::Group(_)) => option == "script-user",
            None => false,
        };
        set_option(&mut group, &value)
            .map_err(|wanted| format!("{option}: '{value}' is not {wanted}"))?;
        if has_other_owner {
            return Err("script-user and script-group exclude each other".into());
        }
    }
    target.server()?.process_groups.push(group);
    Ok(())
}

/// Checks the value of an option and sets its field. The error says what the value should be.
type SetOption = fn(group: &mut ProcessGroup, value: &str) -> Result<(), String>;

/// The most processes of a group. Each has a socket and descriptors in the parent.
const PROCESSES: i64 = 1000;

/// Every option of `WSGIDaemonProcess`.
const OPTIONS: &[(&str, SetOption)] = &[
    ("user", |group, value| set(&mut group.user, text(value))),
    ("group", |group, value| set(&mut group.group, text(value))),
    ("supplementary-groups", |group, value| {
        set(&mut group.supplementary_groups, list(value, ','))
    }),
    ("processes", |group, value| {
        set(&mut group.processes, integer(value, 1, PROCESSES).map(Some))
    }),
    ("threads", |group, value| {
        set(&mut group.threads, integer(value, 0, 65533))
    }),
    ("umask", |group, value| set(&mut group.umask, octal(value))),
    ("chroot", |group, value| {
        set(&mut group.chroot, absolute_path(value))
    }),
    ("home", |group, value| {
        set(&mut group.home, absolute_path(value))
    }),
    ("lang", |group, value| set(&mut group.lang, text(value))),
    ("locale", |group, value| set(&mut group.locale, text(value))),
    ("python-home", |group, value| {
        set(&mut group.python_home, text(value))
    }),
    ("python-path", |group, value| {
        set(&mut group.python_path, list(value, ':'))
    }),
    ("python-eggs", |group, value| {
        set(&mut group.python_eggs, text(value))
    }),
    ("switch-interval", |group, value| {
        set(&mut group.switch_interval, positive(value))
    }),
    ("stack-size", |group, value| {
        set(&mut group.stack_size, integer(value, 1, ANY).map(Some))
    }),
    ("maximum-requests", |group, value| {
        set(&mut group.maximum_requests, integer(value, 0, ANY))
    }),
    ("startup-timeout", |group, value| {
        set(&mut group.startup_timeout, seconds_or_off(value).map(Some))
    }),
    ("shutdown-timeout", |group, value| {
        set(&mut group.shutdown_timeout, seconds(value).map(Some))
    }),
    ("graceful-timeout", |group, value| {
        set(&mut group.graceful_timeout, seconds(value).map(Some))
    }),
    ("eviction-timeout", |group, value| {
        set(&mut group.eviction_timeout, seconds_or_off(value))
    }),
    ("deadlock-timeout", |group, value| {
        set(&mut group.deadlock_timeout, seconds_or_off(value).map(Some))
    }),
    ("inactivity-timeout", |group, value| {
        set(&mut group.inactivity_timeout, seconds_or_off(value))
    }),
    ("request-timeout", |group, value| {
        set(&mut group.request_timeout, seconds_or_off(value))
    }),
    ("interrupt-timeout", |group, value| {
        set(&mut group.interrupt_timeout, seconds_or_off(value))
    }),
    ("restart-interval", |group, value| {
        set(&mut group.restart_interval, seconds_or_off(value))
    }),
    ("cpu-time-limit", |group, value| {
        set(&mut group.cpu_time_limit, seconds_or_off(value))
    }),
    ("cpu-priority", |group, value| {
        let priority = integer(value, i32::MIN.into(), i32::MAX.into());
        set(&mut group.cpu_priority, priority.map(Some))
    }),
    ("memory-limit", |group, value| {
        set(&mut group.memory_limit, bytes_or_off(value))
    }),
    ("virtual-memory-limit", |group, value| {
        set(&mut group.virtual_memory_limit, bytes_or_off(value))
    }),
    ("connect-timeout", |group, value| {
        set(&mut group.connect_timeout, seconds(value).map(Some))
    }),
    ("socket-timeout", |group, value| {
        set(&mut group.socket_timeout, seconds_or_off(value))
    }),
    ("queue-timeout", |group, value| {
        set(&mut group.queue_timeout, seconds_or_off(value))
    }),
    ("listen-backlog", |group, value| {
        set(&mut group.listen_backlog, count(value, 0))
    }),
    ("display-name", |group, value| {
        set(&mut group.display_name, text(value))
    }),
    ("send-buffer-size", |group, value| {
        set(&mut group.send_buffer_size, buffer(value, 512))
    }),
    ("receive-buffer-size", |group, value| {
        set(&mut group.receive_buffer_size, buffer(value, 512))
    }),
    ("header-buffer-size", |group, value| {
        buffer(value, 8192)?;
        let why = "a response may have 1 MiB of headers in any case";
        need_nothing(group, "header-buffer-size", why)
    }),
    ("response-buffer-size", |group, value| {
        buffer(value, 65536)?;
        let why =
            "a slow client holds none of the threads that run Python, so a buffer would free none";
        need_nothing(group, "response-buffer-size", why)
    }),
    ("response-flush-delay", |group, value| {
        integer::<i64>(value, 0, ANY)?;
        let why = "the process says itself whether a response goes on, so httpd waits for nothing";
        need_nothing(group, "response-flush-delay", why)
    }),
    ("response-socket-timeout", |group, value| {
        set(&mut group.response_socket_timeout, seconds_or_off(value))
    }),
    ("socket-user", |group, value| {
        set(&mut group.socket_user, text(value))
    }),
    ("script-user", |group, value| {
        let owner = text(value)?.map(ScriptOwner::User);
        set(&mut group.script_owner, Ok(owner))
    }),
    ("script-group", |group, value| {
        let owner = text(value)?.map(ScriptOwner::Group);
        set(&mut group.script_owner, Ok(owner))
    }),
    ("server-metrics", |group, value| {
        let on = parse_on_off(value).map_err(|_| "On or Off".into());
        set(&mut group.server_metrics, on)
    }),
];

/// Notes that an option is written, but needs no effect here.
fn need_nothing(
    group: &mut ProcessGroup,
    option: &'static str,
    why: &'static str,
) -> Result<(), String> {
    group.needless.retain(|(known, _)| *known != option);
    group.needless.push((option, why));
    Ok(())
}

fn set<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

/// Checks a text, which must not be empty.
fn text(value: &str) -> Result<Option<String>, String> {
    match value {
        "" => Err("a text".into()),
        text => Ok(Some(text.into())),
    }
}

/// Splits a text that is not empty, and leaves out empty parts.
fn list(value: &str, separator: char) -> Result<Vec<String>, String> {
    text(value)?;
    let parts = value.split(separator).filter(|part| !part.is_empty());
    Ok(parts.map(String::from).collect())
}

fn absolute_path(value: &str) -> Result<Option<String>, String> {
    if value.starts_with('/') {
        Ok(Some(value.into()))
    } else {
        Err("an absolute path".into())
    }
}

/// Parses an octal number of at most three digits: a mask of permissions.
fn octal(value: &str) -> Result<Option<u32>, String> {
    match u32::from_str_radix(value, 8) {
        Ok(mask) if mask <= 0o777 => Ok(Some(mask)),
        _ => Err("an octal number".into()),
    }
}

/// Parses a number above 0, with or without a fraction.
fn positive(value: &str) -> Result<Option<f64>, String> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
        _ => Err("a positive number".into()),
    }
}

/// Parses an integer from `least` to `most`; [`ANY`] is no limit.
fn integer<T: TryFrom<i64>>(value: &str, least: i64, most: i64) -> Result<T, String> {
    let number = value.parse::<i64>().ok();
    let permitted = number.filter(|number| (least..=most).contains(number));
    let fitting = permitted.and_then(|number| T::try_from(number).ok());
    fitting.ok_or_else(|| match most {
        ANY => format!("an integer from {least} on"),
        most => format!("an integer from {least} to {most}"),
    })
}

/// No upper limit of an integer.
const ANY: i64 = i64::MAX;

/// Parses an integer from `least` on that has 32 bits. Only the error of a larger one names that limit.
fn count(value: &str, least: i64) -> Result<u32, String> {
    integer::<i64>(value, least, ANY)?;
    integer(value, least, u32::MAX.into())
}

/// Parses a whole number of seconds.
fn seconds(value: &str) -> Result<Duration, String> {
    let time = integer(value, 0, ANY).map(Duration::from_secs);
    time.map(capped)
}

/// Parses a whole number of seconds, of which 0 means no limit.
fn seconds_or_off(value: &str) -> Result<Option<Duration>, String> {
    let time = seconds(value)?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// Parses a number of bytes, of which 0 means no limit.
fn bytes_or_off(value: &str) -> Result<Option<u64>, String> {
    let bytes = integer(value, 0, ANY)?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// Parses the size of a buffer, at least `least` bytes, or 0 for the default.
fn buffer(value: &str, least: usize) -> Result<Option<usize>, String> {
    match integer(value, 0, ANY) {
        Ok(0) => Ok(None),
        Ok(size) if size >= least => Ok(Some(size)),
        _ => Err(format!("0 or an integer from {least} on")),
    }
}

const MUTEXES: &[&str] = &[
    "default", "flock", "fcntl", "sysvsem", "posixsem", "pthread",
];

#[cfg(test)]
mod tests;
