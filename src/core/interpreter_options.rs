//! `<WSGIInterpreterOptions>`: options of the application groups that its selectors match (1.6).

use crate::config::PythonConfig;
use crate::words::Words;

/// One container: selectors, and the options that stand in it.
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
}

/// Options of one application group, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    /// One list of directories per `WSGIPythonPath` that applies, least specific first. Each goes to the front of
    /// `sys.path` in its turn.
    pub python_path: Vec<Vec<String>>,
    /// Seconds; `None` leaves CPython's. Only ever set for the main interpreter: the interval belongs to the GIL,
    /// and all interpreters share one.
    pub switch_interval: Option<f64>,
    /// A container gives this group an interval, which has no effect as the group is not the main interpreter.
    pub switch_interval_ignored: bool,
    /// Whether `sys.stdin` refuses every use.
    pub restrict_stdin: bool,
    /// Whether `sys.stdout` refuses every use.
    pub restrict_stdout: bool,
    /// Whether `signal.signal` registers nothing.
    pub restrict_signal: bool,
}

impl InterpreterOptions {
    /// Reads what stands after `<WSGIInterpreterOptions`, the closing `>` included.
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
            *selector = Some(if value == "%{GLOBAL}" {
                String::new()
            } else {
                value
            });
        }
        Ok(container)
    }

    /// How many of its selectors name the group, or `None` where one names another. Everything runs in the httpd
    /// children, so a selector for a daemon process group matches nothing.
    fn score(&self, application_group: &str) -> Option<usize> {
        let selectors = [
            self.process_group.as_deref().map(str::is_empty),
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

/// The options of `application_group` ("" for the main interpreter, otherwise the expanded name): of the containers
/// that match, the one with most selectors wins, of equal ones the last, each option for itself; then the server's
/// own value, then the default. Paths are added up instead.
pub fn group_options(
    containers: &[InterpreterOptions],
    server: &PythonConfig,
    application_group: &str,
) -> GroupOptions {
    let mut matching: Vec<(usize, &InterpreterOptions)> = containers
        .iter()
        .filter_map(|container| Some((container.score(application_group)?, container)))
        .collect();
    // Stable, so that among equal scores the order of the configuration remains.
    matching.sort_by_key(|(score, _)| *score);

    let most_specific_first = || matching.iter().rev().map(|(_, container)| *container);
    let interval = most_specific_first().find_map(|container| container.switch_interval);
    let is_main = application_group.is_empty();
    GroupOptions {
        python_path: server
            .path
            .iter()
            .chain(
                matching
                    .iter()
                    .filter_map(|(_, container)| container.python_path.as_ref()),
            )
            .cloned()
            .collect(),
        switch_interval: interval.or(server.switch_interval).filter(|_| is_main),
        switch_interval_ignored: interval.is_some() && !is_main,
        restrict_stdin: most_specific_first()
            .find_map(|container| container.restrict_stdin)
            .or(server.restrict_stdin)
            .unwrap_or(false),
        restrict_stdout: most_specific_first()
            .find_map(|container| container.restrict_stdout)
            .or(server.restrict_stdout)
            .unwrap_or(false),
        restrict_signal: most_specific_first()
            .find_map(|container| container.restrict_signal)
            .or(server.restrict_signal)
            .unwrap_or(true),
    }
}
