//! The lines around the tables, and the raw data as JSON.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use procfs::{CpuInfo, Current, LoadAverage};
use serde::Serialize;
use serde_json::json;

use crate::print::table::Spread;
use crate::subjects::server::Httpd;
use crate::subjects::subject::Contender;

/// Prints which Python ran, and warns if it was not the same for both modules.
pub(crate) fn pythons<'r>(ran: impl Iterator<Item = (Contender, &'r Option<String>)>) {
    let ran: Vec<(Contender, &str)> = ran
        .filter_map(|(contender, python)| Some((contender, python.as_deref()?)))
        .collect();
    let of = |contender| {
        ran.iter()
            .find(|(one, _)| *one == contender)
            .map(|(_, python)| *python)
    };
    match (of(Contender::Ours), of(Contender::Rival)) {
        (Some(ours), Some(rival)) if ours != rival => {
            println!("NOT A FAIR PAIR: ours runs {ours}, the rival {rival}. Use --python.");
        }
        (ours, rival) => println!("Python: {}.", ours.or(rival).unwrap_or("none")),
    }
}

/// Returns the libpython that ran. If several ran, names all of them and warns that the comparison is not fair.
pub(crate) fn one_python<'r>(ran: impl Iterator<Item = Option<&'r str>>) -> String {
    let mut names: Vec<&str> = ran.map(|name| name.unwrap_or("no Python")).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [one] => one.to_owned(),
        _ => format!("NOT A FAIR PAIR: {}", names.join(" and ")),
    }
}

/// Prints how many CPUs all other processes of the machine used, and warns if they were not quiet.
pub(crate) fn others(cpus: impl Iterator<Item = f64>) {
    let Some(cpus) = Spread::of(cpus) else { return };
    let busy = cpus.median > QUIET || cpus.most > 4.0 * QUIET;
    println!(
        "Everything else on the machine took {:.2} processors ({:.2} – {:.2}){}",
        cpus.median,
        cpus.least,
        cpus.most,
        if busy { ": NOT A QUIET MACHINE." } else { "." }
    );
}

/// Describes in one line the machine of the measurement.
pub(crate) fn machine(httpd: &Httpd) -> String {
    let processors = CpuInfo::current().ok();
    let processor = processors.as_ref().and_then(|all| all.model_name(0));
    let processor = processor.unwrap_or("unknown processor");
    let version = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map(str::to_owned)
    };
    format!(
        "{}; {}; {} × {processor}; load {}",
        version(&httpd.program, "-v").unwrap_or_default(),
        version(Path::new("valgrind"), "--version").unwrap_or_else(|| "no valgrind".to_owned()),
        std::thread::available_parallelism().map_or(0, usize::from),
        LoadAverage::current().map_or("?".to_owned(), |load| load.one.to_string()),
    )
}

/// Writes the raw data, one file for each measurement, named by the second at which it ended.
pub(crate) fn keep(out: &Path, name: &str, httpd: &Httpd, data: &impl Serialize) -> Result<()> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let file = out.join(format!("{name}-{second}.json"));
    fs::write(
        &file,
        serde_json::to_vec_pretty(&json!({ "machine": machine(httpd), name: data }))?,
    )?;
    println!("Raw data: {}\n", file.display());
    Ok(())
}

/// The most CPUs that other programs may use during a measurement.
const QUIET: f64 = 0.1;
