//! What the engine needs from httpd: of the configuration, and during a request.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wsgi_abi::{
    Admission, Arenas, Bytes, GilDecision, GilMode, GroupOptions, Host, HostResult, HostTable,
    Hosts, Presence, ResponseHead, Retire, Slice, WriteEnd, host_table,
};
use wsgi_core::config::executor;
use wsgi_core::messages::Message;
use wsgi_httpd::log::Level;

use crate::children::life;
use crate::children::retire;
use crate::config::inherited::{Process, current, log_line, log_message};
use crate::engine::gil;
use crate::engine::warmup::Unread;
use crate::metrics::segment;
use crate::request::client::Client;

/// The table, for the engine.
pub(crate) static TABLE: HostTable = host_table::<Exchange<'static>>();

/// The requests of this module.
pub(crate) struct Exchanges;

impl Hosts for Exchanges {
    type Host<'r> = Exchange<'r>;
}

/// Folders, in layers, as the engine has them.
type Layers = &'static [Slice<'static, Bytes<'static>>];

/// Keeps them for ever; equal ones once, so there are no more than the configuration can make of what it names.
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

/// A time for the engine, in milliseconds.
fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A limit for the engine, in milliseconds: 0 where there is none, and 1 at least where there is one.
pub(crate) fn limit_milliseconds(limit: Option<Duration>) -> u32 {
    limit.map_or(0, |limit| milliseconds(limit).max(1))
}

/// How the requests of a group get into Python.
fn admission(process: &Process, written: &executor::Written) -> Admission {
    let executor = process.plan.executor(written, life::has_gil());
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

/// How many requests may be inside an interpreter of the group at a time. The main one is also that of other groups.
fn threads(process: &Process, group: &[u8]) -> u32 {
    let of = |group: &[u8]| {
        let options = process.group_options(&String::from_utf8_lossy(group));
        let executor = process.plan.executor(&options.executor, life::has_gil());
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
    // Of the main interpreter nothing is asked by its own name where another group has it.
    in_main.max().unwrap_or(threads)
}

/// Who asked for what the engine runs. Lives in the frame of who calls the engine.
pub(crate) enum Exchange<'r> {
    /// A client, by a request.
    Client(Client<'r>),
    /// Nobody: a URL of `WSGIWarmup` is asked for.
    Warmup(Unread),
}

impl Host for Exchange<'_> {
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

    fn log(&self, level: Level, line: &[u8]) {
        match self {
            Exchange::Client(client) => client.log(level, line),
            Exchange::Warmup(_) => log_line(level, line),
        }
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        match self {
            Exchange::Client(client) => client.log_beside(level, line),
            Exchange::Warmup(_) => log_line(level, line),
        }
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        match self {
            Exchange::Client(client) => client.read_body(into),
            Exchange::Warmup(_) => HostResult::done(0),
        }
    }

    fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        match self {
            Exchange::Client(client) => client.read_at_hand(into),
            Exchange::Warmup(_) => HostResult::done(0),
        }
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        match self {
            Exchange::Client(client) => client.start_response(head),
            Exchange::Warmup(unread) => unread.start_response(head),
        }
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        match self {
            Exchange::Client(client) => client.write(chunks, end),
            Exchange::Warmup(unread) => unread.write(chunks),
        }
    }

    fn flush(&self) -> HostResult {
        match self {
            Exchange::Client(client) => client.flush(),
            Exchange::Warmup(_) => HostResult::done(0),
        }
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        match self {
            Exchange::Client(client) => client.send_file(file, offset, length),
            Exchange::Warmup(_) => HostResult::done(0),
        }
    }

    fn cut_response(&self) {
        match self {
            Exchange::Client(client) => client.cut_response(),
            Exchange::Warmup(unread) => unread.cut_response(),
        }
    }

    fn client_presence(&self) -> Presence {
        match self {
            Exchange::Client(client) => client.presence(),
            Exchange::Warmup(_) => Presence::Here,
        }
    }

    fn give_up(&self) {
        match self {
            Exchange::Client(client) => client.give_up(),
            Exchange::Warmup(_) => {}
        }
    }

    fn retire(why: Retire) {
        retire::ask(why);
    }

    fn ssl_variable(&self, name: &[u8]) -> Option<&[u8]> {
        match self {
            Exchange::Client(client) => client.ssl_variable(name),
            Exchange::Warmup(_) => None,
        }
    }
}
