//! Directives for interpreters, the GIL, new code and the life of children: mod_wsgi's [M-1], and those that only
//! mod_wsgi_rs has.

use wsgi_abi::{FreeThreading, GilMode};

use super::arguments::{ON_OFF, OURS, on_off, one, parse_on_off};
use super::directive::{Context, Directive, Target};
use crate::config::conf_words::Words;
use crate::config::interpreter_options::InterpreterOptions;
use crate::config::interpreters::{InterpreterConfig, Placement, Replicas};
use crate::config::reload::Reload;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIApplicationGroupLimit",
        syntax: "number",
        default: "what the groups that the configuration names leave of 255, at least 63",
        help: "Sets how many interpreters, from 1 to 255, a child makes for application groups that the configuration does not name; requests for further groups are answered with 503.",
        example: "WSGIApplicationGroup %{HOST}\nWSGIApplicationGroupLimit 20",
        difference: "mod_wsgi has no limit on interpreters that requests name, and no such directive.",
        parse: |args, target| {
            let word = one(args)?;
            let number = word
                .parse()
                .ok()
                .filter(|number| (1..=255).contains(number));
            let number =
                number.ok_or_else(|| format!("'{word}' is not an integer from 1 to 255"))?;
            target.server()?.python.group_limit = Some(number);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIInterpreter",
        in_container: true,
        syntax: "auto|main|sub",
        default: "auto",
        help: "Sets the interpreter that an application group runs in. main: the main interpreter, where every package can be imported; sub: a sub-interpreter of its own, or the main interpreter for %{GLOBAL}; auto: the main interpreter if the server has only one group, else as sub.",
        example: "WSGIInterpreter main",
        difference: OURS,
        parse: |args, target| {
            written(target)?.placement = Some(word(
                args,
                &[
                    ("auto", Placement::Auto),
                    ("main", Placement::Main),
                    ("sub", Placement::Sub),
                ],
            )?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIGILMode",
        in_container: true,
        syntax: "shared|own|free|auto",
        default: "shared; auto with WSGIInterpreters",
        help: "Sets how interpreters hold the GIL. shared: one for all; own: one for each (Python 3.13 or later); free: none (a free-threaded build of 3.14 or later); auto: the best of these with which the application can be imported.",
        example: "<WSGIInterpreterOptions application-group=site>\n    WSGIGILMode auto\n    WSGIInterpreters 2\n</WSGIInterpreterOptions>",
        difference: OURS,
        parse: |args, target| {
            let (gil, without_gil) = word(
                args,
                &[
                    ("shared", (GilMode::Shared, false)),
                    ("own", (GilMode::Own, false)),
                    ("free", (GilMode::Shared, true)),
                    ("auto", (GilMode::Auto, false)),
                ],
            )?;
            let written = written(target)?;
            (written.gil, written.without_gil) = (Some(gil), without_gil);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIInterpreters",
        in_container: true,
        syntax: "number|auto",
        default: "1; auto with WSGIGILMode own or auto",
        help: "Sets how many interpreters with their own GIL hold an application in each child, so that one child uses several cores; auto: one for each core that a child has.",
        example: "<WSGIInterpreterOptions application-group=site>\n    WSGIInterpreters auto\n</WSGIInterpreterOptions>",
        difference: OURS,
        parse: |args, target| {
            let word = one(args)?;
            let count = || word.parse().ok().map(Replicas::Count);
            let replicas = match word.to_ascii_lowercase().as_str() {
                "auto" => Some(Replicas::Auto),
                digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => count(),
                _ => None,
            };
            let fits = |replicas: &Replicas| match replicas {
                Replicas::Auto => true,
                Replicas::Count(count) => (1..=Replicas::MOST).contains(count),
            };
            let replicas = replicas.filter(fits);
            let problem = || {
                format!(
                    "'{word}' is neither auto nor an integer from 1 to {}",
                    Replicas::MOST
                )
            };
            written(target)?.replicas = Some(replicas.ok_or_else(problem)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPerInterpreterGIL",
        in_container: true,
        help: "On: each sub-interpreter has its own GIL, as WSGIGILMode own with WSGIInterpreters 1.",
        example: "<WSGIInterpreterOptions application-group=site>\n    WSGIPerInterpreterGIL On\n</WSGIInterpreterOptions>",
        difference: "It needs Python 3.13; mod_wsgi allows 3.12, where importing datetime in a second interpreter ends the process.",
        parse: |args, target| {
            written(target)?.per_interpreter_gil = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIFreeThreading",
        in_container: true,
        syntax: "Off|On [require]",
        help: "On: a free-threaded build of Python runs without the GIL; with require, applications whose extension modules switch it on again are not served.",
        example: "WSGIFreeThreading On require",
        difference: "require is our own. In a container the directive has no effect and is warned of, as there is one GIL for the whole process, or none.",
        parse: free_threading,
        ..ON_OFF
    },
    Directive {
        name: "WSGIPrivateEnviron",
        in_container: true,
        default: "On",
        help: "Off: what a sub-interpreter writes to os.environ is set in the whole process, for all interpreters and httpd itself.",
        example: "WSGIPrivateEnviron Off",
        parse: |args, target| {
            let on = Some(on_off(args)?);
            match target {
                Target::Options(options) => options.private_environ = on,
                _ => target.server()?.python.private_environ = on,
            }
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIDestroyInterpreter",
        default: "unset",
        help: "Sets how Python ends when a child ends. Unset: shutdown callbacks and atexit functions run, but Python is not finalized. Off: only the shutdown callbacks run. On: Python is finalized as well, if that is safe.",
        example: "WSGIDestroyInterpreter Off",
        difference: "Where nothing is written, mod_wsgi finalizes Python, which may crash extension modules at exit. On does the same here, where that is safe.",
        parse: |args, target| {
            target.server()?.python.destroy = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIReload",
        syntax: "off|script|modules|touch file",
        default: "script",
        help: "Sets how new code takes effect. off: not at all; script: a changed script is executed again; modules: children are replaced one after the other when an imported source file changes; touch: children are replaced when the named file is touched.",
        example: "WSGIReload modules",
        difference: OURS,
        parse: reload,
        ..ON_OFF
    },
    Directive {
        name: "WSGIRecycle",
        syntax: "[requests=number] [memory=size] [age=seconds] [jitter=percent]",
        default: "never",
        help: "Replaces a child that has served this number of requests, has this much memory of its own (512M), or has reached this age. jitter: lowers the requests and the age of each child at random by up to this percentage, so that children do not end together. Holds for each process of a process group, too, before its maximum-requests= and restart-interval=.",
        example: "WSGIRecycle requests=10000 memory=512M age=86400 jitter=10",
        difference: OURS,
        parse: |args, target| target.server()?.recycle.parse(args),
        ..ON_OFF
    },
    Directive {
        name: "WSGIWarmup",
        context: Context::Server,
        syntax: "URL-path ...",
        default: "",
        help: "Lists URLs that a new child requests from its applications before it takes connections.",
        example: "WSGIScriptAlias / /srv/site/wsgi.py\nWSGIWarmup / /login",
        difference: OURS,
        parse: warmup,
        ..ON_OFF
    },
];

/// Returns where a directive on interpreters goes.
fn written<'a>(target: &'a mut Target<'_>) -> Result<&'a mut InterpreterConfig, String> {
    match target {
        Target::Options(options) => Ok(&mut options.interpreters),
        _ => Ok(&mut target.server()?.python.interpreters),
    }
}

/// Parses the only word of `args`, in any case, as one of `permitted`.
fn word<T: Copy>(args: &str, permitted: &[(&str, T)]) -> Result<T, String> {
    let word = one(args)?;
    let found = permitted
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = permitted.iter().map(|(name, _)| *name).collect();
        format!("'{word}' is none of {}", names.join(", "))
    })
}

fn free_threading(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let Some(first) = words.next() else {
        return Err("takes On or Off, and there is nothing".into());
    };
    let wanted = match (parse_on_off(&first)?, words.next().as_deref()) {
        (false, None) => FreeThreading::Off,
        (true, None) => FreeThreading::On,
        (true, Some(word)) if word.eq_ignore_ascii_case("require") => FreeThreading::Require,
        (_, Some(word)) => return Err(format!("'{word}' may not stand after {first}")),
    };
    if let Some(word) = words.next() {
        return Err(format!("'{word}' is one word too many"));
    }
    match target {
        Target::Options(InterpreterOptions { free_threading, .. }) => {
            *free_threading = wanted != FreeThreading::Off;
        }
        _ => target.server()?.python.free_threading = Some(wanted),
    }
    Ok(())
}

fn reload(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let Some(mode) = words.next() else {
        return Err("takes one of off, script, modules, touch, and there is nothing".into());
    };
    let reload = match mode.to_ascii_lowercase().as_str() {
        "off" => Reload::Off,
        "script" => Reload::Script,
        "modules" => Reload::Modules,
        "touch" => match words.next() {
            Some(path) if path.starts_with('/') => Reload::Touch(path.into()),
            Some(path) => return Err(format!("'{path}' is not an absolute path")),
            None => return Err("touch lacks the path of a file".into()),
        },
        _ => {
            return Err(format!(
                "'{mode}' is none of off, script, modules, touch file"
            ));
        }
    };
    if let Some(word) = words.next() {
        return Err(format!("'{word}' is one word too many"));
    }
    target.server()?.reload = reload;
    Ok(())
}

fn warmup(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let server = target.server()?;
    let before = server.warmups.len();
    for url in Words::new(args) {
        if !url.starts_with('/') {
            return Err(format!("'{url}' is not a path that begins with /"));
        }
        server.warmups.push(url);
    }
    if server.warmups.len() == before {
        return Err("the URL is missing".into());
    }
    Ok(())
}
