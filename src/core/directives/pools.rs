//! Directives for threads, queues and time limits, which only mod_wsgi_rs has.

use super::arguments::{ON_OFF, OURS, one};
use super::directive::{Context, Directive, Target};
use crate::config::deadline::{Deadline, or_off};
use crate::config::executor::{ExecutorConfig, Shares};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIExecutor",
        in_container: true,
        syntax: "direct|delegate|pool|auto [min=number] [max=number]",
        default: "auto",
        help: "Sets which threads run Python. direct: the httpd thread of each request; delegate: a number of the httpd threads at once, between min (1) and max (ThreadsPerChild), which depends on how much the application waits; pool: the threads of WSGIThreadPool; auto: direct if a child has one thread or no GIL, else delegate.",
        example: "WSGIExecutor delegate min=2 max=8",
        difference: OURS,
        parse: |args, target| written(target)?.parse_executor(args),
        ..ON_OFF
    },
    Directive {
        name: "WSGIThreadPool",
        in_container: true,
        syntax: "size=number|auto",
        default: "size=auto with WSGIExecutor pool",
        help: "Sets how many pool threads each interpreter has to run its requests; auto: twice the cores and at least 4, but no more than ThreadsPerChild. Without WSGIExecutor, it implies WSGIExecutor pool.",
        example: "WSGIExecutor pool\nWSGIThreadPool size=8",
        difference: OURS,
        parse: |args, target| written(target)?.parse_pool(args),
        ..ON_OFF
    },
    Directive {
        name: "WSGIQueue",
        in_container: true,
        syntax: "[depth=number] [timeout=seconds]",
        default: "timeout=60",
        help: "Sets how many requests of an application group may wait in a child for a thread that runs Python, not counting running ones, and for how long. A request beyond depth is answered with 503, one that waits longer than timeout with 504; with depth=0 none waits.",
        example: "WSGIQueue depth=100 timeout=10",
        difference: OURS,
        parse: |args, target| written(target)?.parse_queue(args),
        ..ON_OFF
    },
    Directive {
        name: "WSGIThreadShare",
        in_container: true,
        syntax: "[number|percent%] [reserve=number|percent%]",
        default: "no limit, no reserve",
        help: "Sets how many threads of a child the requests of an application group may hold, here or in a process group, so that a slow group leaves threads to the others; further requests are answered with 503. A thread counts once, however many requests are nested on it. reserve: threads that all groups together leave to files and everything else.",
        example: "WSGIThreadShare 50% reserve=2",
        difference: OURS,
        parse: thread_share,
        ..ON_OFF
    },
    Directive {
        name: "WSGIRequestTimeout",
        context: Context::Directory,
        syntax: "seconds|Off [grace=seconds]",
        default: "Off",
        help: "Sets how long a request may run. After that, the stack of its thread is logged, mod_wsgi.RequestTimeout is raised in the thread, and the request is answered with 504; if it does not end within grace (1), its child is replaced.",
        example: "WSGIRequestTimeout 60 grace=5\n<Location /export>\n    WSGIRequestTimeout Off\n</Location>",
        difference: "mod_wsgi has request-timeout= of WSGIDaemonProcess, for daemon processes only.",
        parse: |args, target| {
            target.dir()?.request_timeout = Some(Deadline::parse(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGISlowRequestStack",
        context: Context::Directory,
        syntax: "seconds|Off",
        default: "Off",
        help: "Logs the stack of a request's thread, once, when the request has run for this long.",
        example: "WSGISlowRequestStack 5",
        difference: OURS,
        parse: slow_request_stack,
        ..ON_OFF
    },
    Directive {
        name: "WSGISlowRequest",
        context: Context::Directory,
        syntax: "seconds|Off",
        default: "Off",
        help: "An older name of WSGISlowRequestStack. WSGISlowRequests, with the similar name, is another directive: it counts slow requests.",
        example: "WSGISlowRequest 5",
        difference: OURS,
        parse: slow_request_stack,
        ..ON_OFF
    },
    Directive {
        name: "WSGIDeadlockTimeout",
        syntax: "seconds|Off",
        default: "300",
        help: "Sets after how long a GIL that no other thread can get counts as a deadlock. Then the stacks of all threads are logged, and the child is replaced.",
        example: "WSGIDeadlockTimeout 60",
        difference: "mod_wsgi has deadlock-timeout= of WSGIDaemonProcess, for daemon processes only.",
        parse: |args, target| {
            target.server()?.python.deadlock_timeout = Some(or_off(&one(args)?)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIStartupTimeout",
        in_container: true,
        syntax: "seconds|Off",
        default: "60",
        help: "Sets how long an application may take to load. After that, the stack of the thread that loads it is logged, its requests are answered at once with 503 and Retry-After, and the child is replaced. Outside of a container, it is also the limit for the start of Python.",
        example: "WSGIStartupTimeout 120",
        difference: "mod_wsgi has startup-timeout= of WSGIDaemonProcess, for daemon processes only.",
        parse: |args, target| {
            let limit = Some(or_off(&one(args)?)?);
            match target {
                Target::Options(options) => options.startup_timeout = limit,
                _ => target.server()?.python.startup_timeout = limit,
            }
            Ok(())
        },
        ..ON_OFF
    },
];

/// Returns where a directive on the threads of a group goes.
fn written<'a>(target: &'a mut Target<'_>) -> Result<&'a mut ExecutorConfig, String> {
    match target {
        Target::Options(options) => Ok(&mut options.executor),
        _ => Ok(&mut target.server()?.python.executor),
    }
}

fn slow_request_stack(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    target.dir()?.slow_request = Some(or_off(&one(args)?)?);
    Ok(())
}

fn thread_share(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let shares = Shares::parse(args)?;
    if shares.reserve.is_some() {
        if matches!(target, Target::Options(_)) {
            return Err(
                "reserve= is of all groups together; write it outside of <WSGIInterpreterOptions>"
                    .into(),
            );
        }
        target.server()?.python.thread_reserve = shares.reserve;
    }
    if shares.share.is_some() {
        written(target)?.share = shares.share;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::executor::Share;
    use crate::config::interpreter_options::InterpreterOptions;
    use crate::config::{DirConfig, ServerConfig};
    use crate::directives::{Target, find};
    use wsgi_abi::Strategy;

    fn set(target: &mut Target<'_>, line: &str) -> Result<(), String> {
        let (name, args) = line.split_once(' ').unwrap_or((line, ""));
        let directive = find(name).ok_or_else(|| format!("{name} is no directive"))?;
        directive.set(args, target)
    }

    #[test]
    fn the_server_and_containers_have_what_is_written_in_them() {
        let mut server = ServerConfig::default();
        for line in [
            "WSGIExecutor delegate min=2",
            "WSGIThreadShare 50% reserve=2",
            "WSGIThreadShare reserve=3",
            "WSGIDeadlockTimeout 2.5",
        ] {
            assert_eq!(set(&mut Target::Server(&mut server), line), Ok(()));
        }
        let python = &server.python;
        assert_eq!(python.executor.strategy, Some(Some(Strategy::Delegate)));
        assert_eq!(python.executor.share, Some(Share::Percent(50)));
        assert_eq!(python.thread_reserve, Some(Share::Threads(3)));
        assert_eq!(python.deadlock_timeout(), Some(Duration::from_millis(2500)));

        let mut options = InterpreterOptions::default();
        let mut target = Target::Options(&mut options);
        assert_eq!(set(&mut target, "WSGIThreadShare 4"), Ok(()));
        assert_eq!(
            set(&mut target, "WSGIThreadShare 5 reserve=1"),
            Err("WSGIThreadShare: reserve= is of all groups together; write it outside of <WSGIInterpreterOptions>".into())
        );
        assert_eq!(options.executor.share, Some(Share::Threads(4)));
    }

    #[test]
    fn a_deadlock_is_looked_for_unless_that_is_switched_off() {
        let mut server = ServerConfig::default();
        assert_eq!(
            server.python.deadlock_timeout(),
            Some(Duration::from_secs(300))
        );
        for line in ["WSGIDeadlockTimeout Off", "WSGIDeadlockTimeout 0"] {
            server.python.deadlock_timeout = None;
            assert_eq!(set(&mut Target::Server(&mut server), line), Ok(()));
            assert_eq!(server.python.deadlock_timeout(), None);
        }
    }

    #[test]
    fn loads_have_a_limit_unless_that_is_switched_off() {
        use crate::config::interpreter_options::group_options;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let mut server = ServerConfig::default();
        assert_eq!(server.python.startup_timeout(), seconds(60));
        let mut container = InterpreterOptions {
            application_group: Some("slow".into()),
            ..Default::default()
        };
        let mut target = Target::Options(&mut container);
        assert_eq!(set(&mut target, "WSGIStartupTimeout Off"), Ok(()));
        let limits = |server: &ServerConfig, containers: &[InterpreterOptions]| {
            ["slow", "other"]
                .map(|group| group_options(containers, &server.python, "", group).startup_timeout)
        };
        let containers = [container.clone()];
        assert_eq!(limits(&server, &containers), [None, seconds(60)]);
        assert_eq!(
            set(&mut Target::Server(&mut server), "WSGIStartupTimeout 5"),
            Ok(())
        );
        assert_eq!(limits(&server, &containers), [None, seconds(5)]);
        assert_eq!(
            set(&mut Target::Options(&mut container), "WSGIStartupTimeout 7"),
            Ok(())
        );
        assert_eq!(limits(&server, &[container]), [seconds(7), seconds(5)]);
        assert_eq!(
            set(&mut Target::Server(&mut server), "WSGIStartupTimeout 0"),
            Ok(())
        );
        assert_eq!(limits(&server, &[]), [None, None]);
        assert_eq!(
            set(&mut Target::Server(&mut server), "WSGIStartupTimeout soon"),
            Err(
                "WSGIStartupTimeout: 'soon' is neither Off nor a number of seconds from 0.001 on"
                    .into()
            )
        );
    }

    #[test]
    fn deadlines_may_not_stand_where_they_mean_nothing() {
        let mut dir = DirConfig::default();
        let mut dir = Target::Directory(&mut dir);
        assert_eq!(
            set(&mut dir, "WSGIQueue depth=1"),
            Err("WSGIQueue: not allowed in a directory or location".into())
        );
        assert_eq!(set(&mut dir, "WSGIRequestTimeout 5 grace=2"), Ok(()));
        assert_eq!(
            set(&mut dir, "WSGISlowRequest now"),
            Err(
                "WSGISlowRequest: 'now' is neither Off nor a number of seconds from 0.001 on"
                    .into()
            )
        );
        let mut options = InterpreterOptions::default();
        assert_eq!(
            set(&mut Target::Options(&mut options), "WSGIRequestTimeout 5"),
            Err("WSGIRequestTimeout: not allowed in <WSGIInterpreterOptions>".into())
        );
    }
}
