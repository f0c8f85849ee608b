//! The functions of the module that the engine calls: options of a group, and all access to a request while it runs.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use wsgi_abi::{
    Admission, Arenas, Bytes, GilDecision, GilMode, GroupOptions, Host, HostTable, Hosts,
    RequestHost, Retire, Slice, host_table,
};
use wsgi_core::config::executor;
use wsgi_core::messages::Message;
use wsgi_httpd::log::Level;

use super::{gil, start};
use crate::config::inherited::{Process, current};
use crate::log::{log_line, log_message};
use crate::metrics::segment;

/// The table of functions for the engine.
pub(super) static TABLE: HostTable = host_table::<HostRequest<'static>>();

/// Names the type of request that this module gives to the engine.
pub(crate) struct HostRequests;

impl Hosts for HostRequests {
    type Host<'r> = HostRequest<'r>;
}

/// A request that the engine runs. It lives in the stack frame of the function that calls the engine.
pub(crate) struct HostRequest<'r>(&'r dyn RequestHost);

impl<'r> HostRequest<'r> {
    pub(crate) fn new(host: &'r dyn RequestHost) -> Self {
        Self(host)
    }
}

// SAFETY: this is the only place where threads share a request. The engine makes the calls of one request one after the
// other, each under the lock of that request, so that each sees what the one before has written; all of them end before
// the function that lends the request returns from `run`. Only `log_beside` may overlap with another call; it reads
// nothing that another method writes. [S-31] [S-41] [S-55]
unsafe impl Sync for HostRequest<'_> {}

/// The function to call when the engine wants this process to be replaced.
static ON_RETIRE: OnceLock<fn(Retire)> = OnceLock::new();

/// Registers the function to call when the engine wants this process to be replaced.
pub(super) fn on_retire(ask: fn(Retire)) {
    // httpd run with `-X` starts its child again in the same process, with the same function.
    ON_RETIRE.get_or_init(|| ask);
}

/// Folders for `sys.path`, in layers, in the form that the engine takes.
type Layers = &'static [Slice<'static, Bytes<'static>>];

/// Keeps layers until the process ends. Equal layers are kept once, so that the configuration bounds their number.
fn kept(layers: Vec<Vec<String>>) -> Layers {
    static KEPT: Mutex<Vec<(Vec<Vec<String>>, Layers)>> = Mutex::new(Vec::new());
    let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, kept)) = all.iter().find(|(known, _)| *known == layers) {
        return kept;
    }
    let of_layer = |layer: &Vec<String>| {
        let folders = layer.iter().map(|folder| {
            let folder: &'static str = folder.clone().leak();
            Bytes::new(folder.as_bytes())
        });
        Slice::new(folders.collect::<Vec<_>>().leak())
    };
    let kept: Layers = layers.iter().map(of_layer).collect::<Vec<_>>().leak();
    all.push((layers, kept));
    kept
}

/// Converts a time to milliseconds for the engine.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Converts a limit to milliseconds for the engine: 0 for none, and at least 1 for any limit.
pub(crate) fn limit_milliseconds(limit: Option<Duration>) -> u32 {
    limit.map_or(0, |limit| milliseconds(limit).max(1))
}

/// Returns how the requests of a group get into Python.
fn admission(process: &Process, written: &executor::ExecutorConfig) -> Admission {
    let executor = process.plan.executor(written, start::has_gil());
    Admission {
        strategy: executor.strategy,
        least: executor.least,
        most: executor.most,
        pool_size: executor.pool_size,
        queue_depth: executor.queue_depth,
        queue_timeout: milliseconds(executor.queue_timeout),
        share: executor.share,
    }
}

/// Returns how many requests may be inside an interpreter of the group at once. Several groups may share the main
/// interpreter.
fn threads(process: &Process, group: &[u8]) -> u32 {
    let of = |group: &[u8]| {
        let options = process.group_options(&String::from_utf8_lossy(group));
        let executor = process.plan.executor(&options.executor, start::has_gil());
        let is_main = process.is_main(group, options.interpreters.placement);
        (
            is_main,
            process
                .plan
                .threads_inside(&executor, process.python.thread_reserve),
        )
    };
    let (is_main, threads) = of(group);
    if !is_main {
        return threads;
    }
    let others = process.groups.iter().map(|group| of(group));
    let in_main = others.filter_map(|(is_main, threads)| is_main.then_some(threads));
    // No request names the main interpreter directly if another group runs in it.
    in_main.max().unwrap_or(threads)
}

impl Host for HostRequest<'_> {
    fn calls(&self) -> &dyn RequestHost {
        self.0
    }

    fn log_server(level: Level, line: &[u8]) {
        log_line(level, line);
    }

    fn group_options(group: &[u8]) -> GroupOptions {
        let Some(process) = current() else {
            return GroupOptions::default();
        };
        let name = group;
        let group = String::from_utf8_lossy(name);
        let options = process.group_options(&group);
        if options.switch_interval_ignored {
            log_message(Message::SwitchIntervalIgnored, &[&group]);
        }
        GroupOptions {
            python_path: Slice::new(kept(options.python_path)),
            switch_interval: options.switch_interval.unwrap_or(0.0),
            restrict_stdin: options.restrict_stdin,
            restrict_stdout: options.restrict_stdout,
            restrict_signal: options.restrict_signal,
            main: process.is_main(name, options.interpreters.placement),
            private_environ: options.private_environ,
            gil: match options.interpreters.gil {
                // The main interpreter has the GIL of the process.
                _ if name.is_empty() => GilMode::Shared,
                mode => mode,
            },
            replicas: process.plan.replicas(options.interpreters.replicas),
            most_unnamed: process.most_unnamed(name),
            admission: admission(&process, &options.executor),
            threads: threads(&process, name),
            startup_timeout: limit_milliseconds(options.startup_timeout),
        }
    }

    fn gil_decision(group: &[u8]) -> GilDecision {
        gil::choice(group)
    }

    fn gil_decided(group: &[u8], choice: GilDecision, module: &[u8]) {
        gil::chosen(group, choice, module);
    }

    fn arenas(now: u64) -> Arenas {
        segment::arenas(now)
    }

    fn retire(why: Retire) {
        if let Some(ask) = ON_RETIRE.get() {
            ask(why);
        }
    }
}
