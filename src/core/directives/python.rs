//! Directives for Python as a whole, and for its interpreters [M-1].

use super::arguments::{ON_OFF, on_off, one, seconds};
use super::directive::{Directive, Effect, Target};
use crate::config::interpreter_options::InterpreterOptions;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIPythonHome",
        syntax: "prefix|virtual-environment",
        default: "",
        help: "Names the Python to use: the prefix of an installation, or a virtual environment.",
        example: "WSGIPythonHome /srv/site/venv",
        difference: "A home that cannot be used is one line in the log with the remedy; mod_wsgi ends one child after the other.",
        parse: |args, target| {
            target.server()?.python.home = Some(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPythonPath",
        in_container: true,
        syntax: "directory[:directory...]",
        default: "",
        help: "Puts directories in front of sys.path; .pth files in them are honoured.",
        example: "WSGIPythonPath /srv/site:/srv/lib",
        parse: python_path,
        ..ON_OFF
    },
    Directive {
        name: "WSGIPythonEggs",
        syntax: "directory",
        default: "",
        help: "Sets PYTHON_EGG_CACHE in every interpreter.",
        example: "WSGIPythonEggs /var/cache/python-eggs",
        parse: |args, target| {
            target.server()?.python.eggs = Some(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPythonOptimize",
        syntax: "level",
        default: "0",
        help: "Sets the optimization level, as Python's -O (1) and -OO (2) do.",
        example: "WSGIPythonOptimize 1",
        parse: |args, target| {
            // A text that is not a number counts as 0, as in mod_wsgi.
            target.server()?.python.optimize = one(args)?.parse().unwrap_or(0);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPythonWarnings",
        syntax: "filter",
        default: "",
        help: "Adds a warning filter, as Python's -W does; may be repeated.",
        example: "WSGIPythonWarnings ignore::DeprecationWarning",
        parse: |args, target| {
            target.server()?.python.warnings.push(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPythonHashSeed",
        syntax: "random|number",
        default: "random",
        help: "Fixes the seed of string hashes, from 0 to 4294967295.",
        example: "WSGIPythonHashSeed 0",
        difference: "random leaves the seed random; mod_wsgi sets it to 0 for that word.",
        parse: hash_seed,
        ..ON_OFF
    },
    Directive {
        name: "WSGIDontWriteBytecode",
        help: "On: Python writes no .pyc files.",
        example: "WSGIDontWriteBytecode On",
        parse: |args, target| {
            target.server()?.python.dont_write_bytecode = on_off(args)?;
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGISwitchInterval",
        in_container: true,
        syntax: "seconds",
        default: "0.005",
        help: "Sets after how long a thread has to give up the GIL if other threads wait for it.",
        example: "WSGISwitchInterval 0.001",
        difference: "In a container it concerns application groups that may have a GIL of their own; for any other group it is ignored with message 0199.",
        parse: switch_interval,
        ..ON_OFF
    },
    Directive {
        name: "<WSGIInterpreterOptions",
        container: true,
        syntax: "[process-group=name] [application-group=name]",
        default: "",
        help: "Holds options for the interpreters of a process group, of an application group, or of both.",
        example: "<WSGIInterpreterOptions application-group=reports>\n    WSGIPythonPath /srv/reports\n    WSGIRestrictStdout On\n</WSGIInterpreterOptions>",
        difference: "It may also hold the directives on interpreters and threads that mod_wsgi does not have.",
        parse: |args, target| {
            target
                .server()?
                .interpreter_options
                .push(InterpreterOptions::parse(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIRestrictStdin",
        in_container: true,
        help: "On: sys.stdin refuses every use.",
        example: "WSGIRestrictStdin On",
        parse: |args, target| {
            let on = Some(on_off(args)?);
            match target {
                Target::Options(options) => options.restrict_stdin = on,
                _ => target.server()?.python.restrict_stdin = on,
            }
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIRestrictStdout",
        in_container: true,
        help: "On: sys.stdout refuses every use; Off: it goes to the log.",
        example: "WSGIRestrictStdout On",
        parse: |args, target| {
            let on = Some(on_off(args)?);
            match target {
                Target::Options(options) => options.restrict_stdout = on,
                _ => target.server()?.python.restrict_stdout = on,
            }
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIRestrictSignal",
        in_container: true,
        default: "On",
        help: "On: signal.signal registers nothing, as the signals of the process belong to httpd.",
        example: "WSGIRestrictSignal Off",
        parse: |args, target| {
            let on = Some(on_off(args)?);
            match target {
                Target::Options(options) => options.restrict_signal = on,
                _ => target.server()?.python.restrict_signal = on,
            }
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGICaseSensitivity",
        default: "On",
        help: "Off: paths of scripts that differ only in case are one script.",
        example: "WSGICaseSensitivity Off",
        parse: |args, target| {
            target.server()?.python.case_sensitivity = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIVerboseDebugging",
        default: "",
        help: "Deprecated.",
        example: "WSGIVerboseDebugging Off",
        effect: Effect::Nothing("mod_wsgi gave it up; set LogLevel wsgi:debug instead"),
        ..ON_OFF
    },
];

fn python_path(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let path = one(args)?;
    let directories = path.split(':').filter(|directory| !directory.is_empty());
    let directories = Some(directories.map(String::from).collect());
    match target {
        Target::Options(options) => options.python_path = directories,
        _ => target.server()?.python.path = directories,
    }
    Ok(())
}

fn switch_interval(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let interval = Some(seconds(args, "a positive number", |number| number > 0.0)?);
    match target {
        Target::Options(options) => options.switch_interval = interval,
        _ => target.server()?.python.switch_interval = interval,
    }
    Ok(())
}

/// Parses `WSGIPythonHashSeed`. `random` leaves hashes random; in mod_wsgi it sets the seed to 0 by mistake.
fn hash_seed(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let word = one(args)?;
    target.server()?.python.hash_seed = match word.as_str() {
        "random" => None,
        _ => Some(word.parse().map_err(|_| {
            format!("'{word}' is neither 'random' nor an integer from 0 to 4294967295")
        })?),
    };
    Ok(())
}
