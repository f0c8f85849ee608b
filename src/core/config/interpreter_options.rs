//! `<WSGIInterpreterOptions>`: options of the application groups that its selectors match [M-3].

use std::time::Duration;

use wsgi_abi::{FreeThreading, GilMode};

use crate::config::conf_words::Words;
use crate::config::executor;
use crate::config::interpreters::{InterpreterConfig, Interpreters};
use crate::config::python::PythonConfig;
use crate::request::group::literal_group;

/// One container: its selectors, and the directives in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterpreterOptions {
    /// `process-group=`; "" for the httpd children (`%{GLOBAL}`); `None` matches every group.
    pub process_group: Option<String>,
    /// `application-group=`; "" for the main interpreter; `None` matches every group.
    pub application_group: Option<String>,
    /// `WSGIPythonPath`.
    pub python_path: Option<Vec<String>>,
    /// `WSGISwitchInterval`, seconds.
    pub switch_interval: Option<f64>,
    /// `WSGIRestrictStdin`.
    pub restrict_stdin: Option<bool>,
    /// `WSGIRestrictStdout`.
    pub restrict_stdout: Option<bool>,
    /// `WSGIRestrictSignal`.
    pub restrict_signal: Option<bool>,
    /// `WSGIInterpreter`, `WSGIGILMode`, `WSGIPerInterpreterGIL`, `WSGIInterpreters`.
    pub interpreters: InterpreterConfig,
    /// `WSGIExecutor`, `WSGIThreadPool`, `WSGIQueue`, `WSGIThreadShare`.
    pub executor: executor::ExecutorConfig,
    /// Whether `WSGIFreeThreading On` is written in the container, where it has no effect: it concerns the whole
    /// process.
    pub free_threading: bool,
    /// `WSGIPrivateEnviron`.
    pub private_environ: Option<bool>,
    /// `WSGIStartupTimeout`; the inner `None` is Off.
    pub startup_timeout: Option<Option<Duration>>,
}

/// The resolved options of one application group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// One list of directories for each `WSGIPythonPath` that applies, least specific first, and at last `home=` of a
    /// process group. Each list in turn goes to the front of `sys.path`.
    pub python_path: Vec<Vec<String>>,
    /// Switch interval, seconds; `None` leaves CPython's. Set only for the main interpreter and for groups that may
    /// have own GILs, as the interval belongs to the GIL.
    pub switch_interval: Option<f64>,
    /// Whether a container gives this group an interval that has no effect, as the group has no own GIL.
    pub switch_interval_ignored: bool,
    /// Whether `sys.stdin` refuses every use.
    pub restrict_stdin: bool,
    /// Whether `sys.stdout` refuses every use.
    pub restrict_stdout: bool,
    /// Whether `signal.signal` registers nothing.
    pub restrict_signal: bool,
    /// The interpreters of the group.
    pub interpreters: Interpreters,
    /// The directives on the threads of the group, which [`crate::plan::mpm_plan::MpmPlan::executor`] resolves.
    pub executor: executor::ExecutorConfig,
    /// Whether writes to `os.environ` stay in a sub-interpreter.
    pub private_environ: bool,
    /// How long an application may take to load; `None` for no limit.
    pub startup_timeout: Option<Duration>,
}

impl InterpreterOptions {
    /// Parses what follows `<WSGIInterpreterOptions`, including the closing `>`.
    pub(crate) fn parse(args: &str) -> Result<InterpreterOptions, String> {
        let args = args.strip_suffix('>').ok_or("the closing '>' is missing")?;
        let mut container = InterpreterOptions::default();
        let mut words = Words::new(args);
        while !words.is_empty() {
            let (key, value) = words
                .option()
                .ok_or_else(|| format!("'{}' is not of the form selector=name", words.rest()))?;
            let selector = match key.to_ascii_lowercase().as_str() {
                "process-group" => &mut container.process_group,
                "application-group" => &mut container.application_group,
                _ => {
                    return Err(format!(
                        "'{key}' is neither process-group nor application-group"
                    ));
                }
            };
            if selector.is_some() {
                return Err(format!("{key} is given twice"));
            }
            *selector = Some(literal_group(value));
        }
        Ok(container)
    }

    /// Returns how many selectors name the groups, or `None` if one names another group.
    fn score(&self, process_group: &str, application_group: &str) -> Option<usize> {
        let selectors = [
            self.process_group
                .as_deref()
                .map(|name| name == process_group),
            self.application_group
                .as_deref()
                .map(|name| name == application_group),
        ];
        let explicit = selectors.iter().flatten();
        explicit
            .clone()
            .all(|&matches| matches)
            .then_some(explicit.count())
    }
}

/// Returns the options of `application_group` ("" for the main interpreter, otherwise the expanded name) in the processes
/// of `process_group` ("" for httpd's children). Each option comes from the matching container with most selectors that
/// has it, of equal containers the last; then from `server`, which for a process group is
/// [`ProcessGroup::python`](super::ProcessGroup::python); then from the default. Paths are added up instead.
pub fn group_options(
    containers: &[InterpreterOptions],
    server: &PythonConfig,
    process_group: &str,
    application_group: &str,
) -> GroupOptions {
    let mut matching: Vec<(usize, &InterpreterOptions)> = containers
        .iter()
        .filter_map(|container| {
            let score = container.score(process_group, application_group)?;
            Some((score, container))
        })
        .collect();
    // The sort is stable, so that equal scores keep the order of the configuration.
    matching.sort_by_key(|(score, _)| *score);

    let most_specific_first = || matching.iter().rev().map(|(_, container)| *container);
    let flag = |get: fn(&InterpreterOptions) -> Option<bool>| most_specific_first().find_map(get);
    let interval = most_specific_first().find_map(|container| container.switch_interval);
    let layers = matching
        .iter()
        .filter_map(|(_, container)| container.python_path.as_ref());
    let interpreters = most_specific_first()
        .map(|container| container.interpreters)
        .chain([server.interpreters])
        .fold(InterpreterConfig::default(), InterpreterConfig::or)
        .resolve();
    let executor = most_specific_first()
        .map(|container| container.executor)
        .chain([server.executor])
        .fold(
            executor::ExecutorConfig::default(),
            executor::ExecutorConfig::or,
        );
    let has_interval = application_group.is_empty() || interpreters.gil != GilMode::Shared;
    GroupOptions {
        python_path: python_path(server, layers),
        switch_interval: interval.or(server.switch_interval).filter(|_| has_interval),
        switch_interval_ignored: interval.is_some() && !has_interval,
        restrict_stdin: flag(|container| container.restrict_stdin)
            .or(server.restrict_stdin)
            .unwrap_or(false),
        restrict_stdout: flag(|container| container.restrict_stdout)
            .or(server.restrict_stdout)
            .unwrap_or(false),
        restrict_signal: flag(|container| container.restrict_signal)
            .or(server.restrict_signal)
            .unwrap_or(true),
        private_environ: flag(|container| container.private_environ)
            .or(server.private_environ)
            .unwrap_or(true),
        startup_timeout: most_specific_first()
            .find_map(|container| container.startup_timeout)
            .unwrap_or_else(|| server.startup_timeout()),
        interpreters,
        executor,
    }
}

/// Returns the lists of directories of `server` and of the containers (`layers`). The first directory of `sys.path` is a
/// list of its own at the end and is in no other list, as a directory that is already in `sys.path` stays in its place.
fn python_path<'a>(
    server: &'a PythonConfig,
    layers: impl Iterator<Item = &'a Vec<String>>,
) -> Vec<Vec<String>> {
    let layers = server.path.iter().chain(layers);
    let Some(first) = &server.first_directory else {
        return layers.cloned().collect();
    };
    let same = |directory: &str| directory.trim_end_matches('/') == first.trim_end_matches('/');
    let others = |layer: &Vec<String>| -> Vec<String> {
        let others = layer.iter().filter(|directory| !same(directory));
        others.cloned().collect()
    };
    layers.map(others).chain([vec![first.clone()]]).collect()
}

/// Returns what the process asks of a free-threaded build. Containers do not count: a process has one GIL, or none.
pub fn free_threading(python: &PythonConfig) -> FreeThreading {
    let by_mode = match python.interpreters.gil {
        _ if python.interpreters.without_gil => FreeThreading::On,
        Some(GilMode::Auto) => FreeThreading::Possible,
        _ => FreeThreading::Off,
    };
    python.free_threading.unwrap_or(by_mode)
}

/// Returns whether a container asks for a mode that only the whole process can have.
pub fn free_in_containers(containers: &[InterpreterOptions]) -> bool {
    let free = |container: &InterpreterOptions| {
        container.interpreters.without_gil || container.free_threading
    };
    containers.iter().any(free)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn container(selectors: &str) -> InterpreterOptions {
        InterpreterOptions::parse(&format!("{selectors}>")).unwrap()
    }

    #[test]
    fn selectors_are_read() {
        let both = container("PROCESS-GROUP=%{GLOBAL} application-group='a b'");
        assert_eq!(both.process_group.as_deref(), Some(""));
        assert_eq!(both.application_group.as_deref(), Some("a b"));
        assert_eq!(container(""), InterpreterOptions::default());
    }

    #[test]
    fn wrong_selectors_are_refused() {
        for (args, expected) in [
            ("application-group=a", "the closing '>' is missing"),
            ("name>", "'name' is not of the form selector=name"),
            (
                "group=a>",
                "'group' is neither process-group nor application-group",
            ),
            (
                "application-group=a Application-Group=b>",
                "Application-Group is given twice",
            ),
        ] {
            assert_eq!(InterpreterOptions::parse(args), Err(expected.into()));
        }
    }

    #[test]
    fn selectors_match_exactly() {
        for (selectors, process, application, expected) in [
            ("", "", "a", Some(0)),
            ("", "site", "a", Some(0)),
            ("application-group=a", "", "a", Some(1)),
            ("application-group=a", "site", "a", Some(1)),
            ("application-group=a", "", "A", None),
            ("application-group=%{GLOBAL}", "", "", Some(1)),
            ("application-group=%{GLOBAL}", "", "a", None),
            ("process-group=%{GLOBAL}", "", "a", Some(1)),
            ("process-group=%{GLOBAL}", "site", "a", None),
            ("process-group='' application-group=a", "", "a", Some(2)),
            ("process-group=site", "", "a", None),
            ("process-group=site", "site", "a", Some(1)),
            ("process-group=site", "Site", "a", None),
            ("process-group=site application-group=a", "", "a", None),
            (
                "process-group=site application-group=a",
                "site",
                "a",
                Some(2),
            ),
            ("process-group=site application-group=a", "site", "b", None),
            ("process-group=%{GLOBAL} application-group=b", "", "a", None),
        ] {
            assert_eq!(
                container(selectors).score(process, application),
                expected,
                "{selectors} {process} {application}"
            );
        }
    }

    #[test]
    fn a_process_group_has_the_options_of_its_containers() {
        let containers = [
            InterpreterOptions {
                restrict_stdin: Some(true),
                python_path: Some(vec!["/site".into()]),
                ..container("process-group=site")
            },
            InterpreterOptions {
                restrict_stdout: Some(true),
                ..container("process-group=%{GLOBAL}")
            },
        ];
        let options = |process| {
            let options = group_options(&containers, &PythonConfig::default(), process, "a");
            let path = options.python_path.concat();
            (options.restrict_stdin, options.restrict_stdout, path)
        };
        assert_eq!(options(""), (false, true, vec![]));
        assert_eq!(options("site"), (true, false, vec!["/site".into()]));
        assert_eq!(options("other"), (false, false, vec![]));
    }

    #[test]
    fn the_most_specific_wins_and_of_equals_the_last_each_option_for_itself() {
        let containers = [
            InterpreterOptions {
                restrict_stdin: Some(true),
                restrict_stdout: Some(true),
                ..container("application-group=a")
            },
            InterpreterOptions {
                restrict_stdin: Some(false),
                restrict_signal: Some(false),
                ..container("")
            },
            InterpreterOptions {
                restrict_stdout: Some(false),
                ..container("process-group=%{GLOBAL}")
            },
        ];
        let server = PythonConfig {
            restrict_stdin: Some(true),
            ..PythonConfig::default()
        };
        let options = |group| {
            let options = group_options(&containers, &server, "", group);
            (
                options.restrict_stdin,
                options.restrict_stdout,
                options.restrict_signal,
            )
        };
        assert_eq!(options("a"), (true, false, false));
        assert_eq!(options("b"), (false, false, false));
        let options = group_options(&[], &server, "", "a");
        assert_eq!(
            (
                options.restrict_stdin,
                options.restrict_stdout,
                options.restrict_signal
            ),
            (true, false, true)
        );
    }

    #[test]
    fn paths_add_up_from_least_to_most_specific() {
        let path = |dir: &str| Some(vec![dir.to_string()]);
        let containers = [
            InterpreterOptions {
                python_path: path("/both"),
                ..container("process-group=%{GLOBAL} application-group=a")
            },
            InterpreterOptions {
                python_path: path("/a1"),
                ..container("application-group=a")
            },
            InterpreterOptions {
                python_path: path("/all"),
                ..container("")
            },
            InterpreterOptions {
                python_path: path("/a2"),
                ..container("application-group=a")
            },
            InterpreterOptions {
                python_path: path("/other"),
                ..container("application-group=b")
            },
        ];
        let server = PythonConfig {
            path: path("/server"),
            ..PythonConfig::default()
        };
        let layers = group_options(&containers, &server, "", "a")
            .python_path
            .concat();
        assert_eq!(layers, ["/server", "/all", "/a1", "/a2", "/both"]);
    }

    #[test]
    fn the_switch_interval_is_the_main_interpreters() {
        let containers = [
            InterpreterOptions {
                switch_interval: Some(0.2),
                ..container("application-group=%{GLOBAL}")
            },
            InterpreterOptions {
                switch_interval: Some(0.3),
                ..container("application-group=a")
            },
        ];
        let server = PythonConfig {
            switch_interval: Some(0.1),
            ..PythonConfig::default()
        };
        for (group, expected) in [
            ("", (Some(0.2), false)),
            ("a", (None, true)),
            ("b", (None, false)),
        ] {
            let options = group_options(&containers, &server, "", group);
            assert_eq!(
                (options.switch_interval, options.switch_interval_ignored),
                expected,
                "{group}"
            );
        }
        assert_eq!(
            group_options(&[], &server, "", "").switch_interval,
            Some(0.1)
        );
    }
    #[test]
    fn threads_are_those_of_the_container_and_then_of_the_server() {
        let mut containers = [
            container("application-group=a"),
            container("process-group=%{GLOBAL} application-group=a"),
        ];
        containers[0].executor.parse_pool("size=4").unwrap();
        containers[1].executor.parse_queue("depth=7").unwrap();
        let mut server = PythonConfig::default();
        server.executor.parse_queue("depth=9 timeout=5").unwrap();
        server.executor.parse_executor("direct").unwrap();
        let of = |group| group_options(&containers, &server, "", group).executor;
        assert_eq!(of("b"), server.executor);
        let a = of("a");
        assert_eq!(a.asked(), Some(wsgi_abi::Strategy::Pool));
        assert_eq!(
            (a.pool_size, a.queue_depth, a.queue_timeout),
            (
                Some(executor::PoolSize::Count(4)),
                Some(7),
                server.executor.queue_timeout
            )
        );
    }

    #[test]
    fn the_whole_process_is_free_threaded_or_not() {
        for (gil, without_gil, free, expected) in [
            (None, false, None, FreeThreading::Off),
            (Some(GilMode::Own), false, None, FreeThreading::Off),
            (Some(GilMode::Shared), true, None, FreeThreading::On),
            (Some(GilMode::Auto), false, None, FreeThreading::Possible),
            (
                Some(GilMode::Shared),
                true,
                Some(FreeThreading::Off),
                FreeThreading::Off,
            ),
            (
                None,
                false,
                Some(FreeThreading::Require),
                FreeThreading::Require,
            ),
        ] {
            let python = PythonConfig {
                interpreters: InterpreterConfig {
                    gil,
                    without_gil,
                    ..InterpreterConfig::default()
                },
                free_threading: free,
                ..PythonConfig::default()
            };
            assert_eq!(
                free_threading(&python),
                expected,
                "{gil:?} {without_gil} {free:?}"
            );
        }
    }
}
