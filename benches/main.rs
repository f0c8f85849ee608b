//! Measures side by side what a hello-world request costs under mod_wsgi_rs, under mod_wsgi, and without Python.
//!
//! `README.md` beside this file explains the method and the figures; `run` prepares the machine and starts this
//! program.

mod executors;
mod measure;
mod print;
mod subjects;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use crate::executors::column::{Column, Files};
use crate::executors::measure::Executors;
use crate::executors::plan::Plan;
use crate::executors::workload::Workload;
use crate::measure::{
    admission, cpu, daemon, daemon_instructions, instructions, metrics, profile, replicas,
};
use crate::print::report;
use crate::print::verdict::Verdict;
use crate::subjects::interrupt;
use crate::subjects::server::{Httpd, Mpm};
use crate::subjects::subject::{self, Application, Contender, Group, Subject, UNDER_CALLGRIND};

/// Instructions and CPU time per request: floor, mod_wsgi_rs and mod_wsgi in one run.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// A short version, about half a minute: fewer rounds, fewer requests, more noise
    #[arg(long)]
    quick: bool,
    /// Exit with 1 unless every target of what was measured is met
    #[arg(long)]
    check: bool,
    /// Our module; its engines are looked for beside it
    #[arg(
        long,
        env = "WSGI_BENCH_MODULE",
        default_value = "target/release/mod_wsgi_rs.so"
    )]
    module: PathBuf,
    /// The rival's module
    #[arg(
        long,
        env = "WSGI_BENCH_RIVAL",
        default_value = "target/bench/mod_wsgi.so"
    )]
    rival: PathBuf,
    /// The bare handler
    #[arg(
        long,
        env = "WSGI_BENCH_FLOOR",
        default_value = "target/bench/mod_floor.so"
    )]
    floor: PathBuf,
    /// Prefix or virtual environment for WSGIPythonHome of both (the rival must have been built for that Python)
    #[arg(long)]
    python: Option<PathBuf>,
    /// Prefix of the Python (3.13 or later) for what needs several interpreters
    #[arg(long, env = "WSGI_BENCH_NEWEST")]
    newest: Option<PathBuf>,
    /// The rival's module for that Python
    #[arg(
        long,
        env = "WSGI_BENCH_NEWEST_RIVAL",
        default_value = "target/bench/mod_wsgi-newest.so"
    )]
    newest_rival: PathBuf,
    /// Where the application runs
    #[arg(long, value_enum, default_value = "global")]
    group: Group,
    /// Rounds of alternating runs; each runs every subject once [default: 7, quick: 3; of `executors` 5, quick: 3]
    #[arg(long, value_parser = positive)]
    rounds: Option<usize>,
    /// Requests of one CPU time run [default: 20000, quick: 4000]
    #[arg(long)]
    requests: Option<usize>,
    /// Threads of the child, for `executors`
    #[arg(long, value_delimiter = ',', default_values_t = [25, 64], value_parser = positive)]
    threads: Vec<usize>,
    /// Connections of `executors` [default: as many as threads]
    #[arg(long, value_parser = positive)]
    connections: Option<usize>,
    /// Rows of `executors` [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Columns of `executors`: these, poolN, none (no directive), baseline (--baseline, no directive), or
    /// `NAME=DIRECTIVE; DIRECTIVE`
    #[arg(long, value_delimiter = ',', default_values = Column::USUAL)]
    columns: Vec<Column>,
    /// How long a cell of `executors` lasts in the fastest column, warm-up excluded [default: 1.75, quick: 0.6]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Our module of an earlier build, its engines beside it, for `admission` and the column `baseline`
    #[arg(long, env = "WSGI_BENCH_BASELINE")]
    baseline: Option<PathBuf>,
    /// The program of the Python that the modules run: `executors` times its loop on it, and gunicorn and uWSGI of
    /// `daemon` run on it
    #[arg(
        long,
        env = "WSGI_BENCH_INTERPRETER",
        default_value = "/usr/bin/python3"
    )]
    interpreter: PathBuf,
    /// How often each instruction count is taken [default: 3, quick: 1]
    #[arg(long)]
    repeat: Option<usize>,
    /// Lines of each list that `profile` prints
    #[arg(long, default_value_t = 40)]
    top: usize,
    /// Folder for the raw data
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Instructions per request, by callgrind
    Instructions,
    /// CPU time per request, throughput and latency in alternating runs
    Cpu,
    /// One child on several cores: two replicas beside one interpreter, and beside mod_wsgi
    Replicas,
    /// Instructions, CPU time, replicas and metrics
    All,
    /// Throughput and latency of every executor under every kind of work, half an hour
    Executors,
    /// What it costs to let a request into Python when no other waits, by callgrind
    Admission,
    /// Process groups beside mod_wsgi's daemon mode, and beside gunicorn and uWSGI behind mod_proxy
    Daemon,
    /// What it costs to record a request and to answer a scrape, without a server
    Metrics,
    /// Where our instructions go, function by function
    Profile,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("wsgi-bench: {failure:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    interrupt::watch()?;
    let httpd = Httpd::find()?;
    let subjects: Vec<Subject> = subject::all(options.python.as_deref(), options.group)
        .into_iter()
        .zip([
            &options.floor,
            &options.module,
            &options.module,
            &options.rival,
        ])
        .filter_map(|(subject, file)| subject.with_module(file))
        .collect();
    ensure!(
        !subjects.is_empty(),
        "no subject to measure: run `make build` first, and start this through benches/run"
    );
    std::fs::create_dir_all(&options.out)?;
    println!("{}\n", report::machine(&httpd));

    let newest = newest(options)?;
    let mut verdicts = Vec::new();
    if matches!(options.what, What::Instructions | What::All) {
        let repeat = options.repeat.unwrap_or(if options.quick { 1 } else { 3 });
        let counts = instructions::measure(&httpd, &subjects, Mpm::Prefork, repeat)?;
        verdicts.push(instructions::print(&counts));
        report::keep(&options.out, "instructions", &httpd, &counts)?;
        if let Some(python) = newest {
            let places: Vec<Subject> = Contender::PLACES
                .into_iter()
                .filter_map(|contender| {
                    subject::placed(contender, python, Application::Hello)
                        .with_module(&options.module)
                })
                .collect();
            let counts = instructions::measure(&httpd, &places, Mpm::Prefork, repeat)?;
            verdicts.push(instructions::print_places(&counts));
            report::keep(&options.out, "places", &httpd, &counts)?;
        }
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 7 });
    let requests = options
        .requests
        .unwrap_or(if options.quick { 4_000 } else { 20_000 });
    if matches!(options.what, What::Cpu | What::All) {
        let runs = cpu::measure(&httpd, &subjects, rounds, requests)?;
        cpu::print(&runs);
        report::keep(&options.out, "cpu", &httpd, &runs)?;
    }
    if let (What::Replicas | What::All, Some(python)) = (options.what, newest) {
        let (module, rival) = (&options.module, &options.newest_rival);
        let measured = replicas::measure(&httpd, python, module, rival, rounds, requests)?;
        verdicts.push(replicas::print(&measured));
        report::keep(&options.out, "replicas", &httpd, &measured)?;
    }
    if matches!(options.what, What::Metrics | What::All) {
        let measured = metrics::measure(if options.quick { 3 } else { 9 })?;
        metrics::print(&measured);
        report::keep(&options.out, "metrics", &httpd, &measured)?;
    }
    if options.what == What::Executors {
        let plan = plan(options);
        let measured = Executors::measure(&httpd, &plan)?;
        verdicts.push(measured.print(&plan));
        report::keep(&options.out, "executors", &httpd, &measured)?;
    }
    if options.what == What::Admission {
        let repeat = options.repeat.unwrap_or(if options.quick { 1 } else { 3 });
        let home = options.python.as_deref();
        let baseline = options.baseline.as_deref();
        let counts = admission::measure(&httpd, home, &options.module, baseline, repeat)?;
        verdicts.push(admission::print(&counts));
        report::keep(&options.out, "admission", &httpd, &counts)?;
    }
    if options.what == What::Daemon {
        let sources = daemon::Sources {
            ours: &options.module,
            rival: &options.rival,
            home: options.python.as_deref(),
            interpreter: &options.interpreter,
            environments: &options.out,
        };
        let subjects = daemon::subjects(&sources, "")?;
        let runs = daemon::measure(&httpd, subjects, rounds, requests)?;
        verdicts.push(daemon::print(&runs));
        report::keep(&options.out, "daemon", &httpd, &runs)?;
        let slow = daemon::subjects(&sources, UNDER_CALLGRIND)?;
        let counts = daemon_instructions::measure(&httpd, &slow)?;
        daemon_instructions::print(&counts);
        report::keep(&options.out, "daemon-instructions", &httpd, &counts)?;
    }
    if options.what == What::Profile {
        profile::print(&httpd, &subjects, options.top, &options.out)?;
    }
    Ok(!options.check || Verdict::of_all(&verdicts) == Verdict::Met)
}

fn positive(text: &str) -> Result<usize> {
    let number = text.parse()?;
    ensure!(number > 0, "at least 1");
    Ok(number)
}

fn seconds(text: &str) -> Result<f64> {
    let number = text.parse()?;
    ensure!((0.05..=600.0).contains(&number), "between 0.05 and 600");
    Ok(number)
}

/// Returns the measurement that `executors` makes.
fn plan(options: &Options) -> Plan<'_> {
    let workloads = if options.workloads.is_empty() {
        Workload::value_variants()
    } else {
        &options.workloads
    };
    Plan {
        threads: options.threads.clone(),
        connections: options.connections,
        workloads: workloads.to_vec(),
        columns: options.columns.clone(),
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 5 }),
        seconds: options
            .seconds
            .unwrap_or(if options.quick { 0.6 } else { 1.75 }),
        files: Files {
            ours: &options.module,
            baseline: options.baseline.as_deref(),
            rival: &options.rival,
        },
        home: options.python.as_deref(),
        interpreter: &options.interpreter,
    }
}

/// Returns the Python for several interpreters, if one is needed; prints a message if there is none.
fn newest(options: &Options) -> Result<Option<&Path>> {
    if !matches!(
        options.what,
        What::Instructions | What::Replicas | What::All
    ) {
        return Ok(None);
    }
    if options.newest.is_none() {
        let problem = "several interpreters are not measured: there is no engine for a Python of 3.13 or later";
        ensure!(options.what != What::Replicas, problem);
        eprintln!("wsgi-bench: {problem}");
    }
    Ok(options.newest.as_deref())
}
