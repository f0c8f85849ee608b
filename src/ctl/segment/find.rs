//! Finds segments: the one that was named, else the only one in the usual places.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use wsgi_telemetry::Segment;

use crate::output::failure::{Failure, Outcome};
use crate::segment::server::Server;
use crate::segment::trust::Access;
use crate::system::private_folder;

/// Name of the file in httpd's `DefaultRuntimeDir`.
pub(crate) const FILE: &str = "mod_wsgi_rs.segment";

/// The runtime folders of distributions, and of a default build of httpd.
const FOLDERS: [&str; 5] = [
    "/run/apache2",
    "/var/run/apache2",
    "/run/httpd",
    "/var/run/httpd",
    "/usr/local/apache2/logs",
];

/// Opens the segment at `path`, else the only one there is. If there are several, the only one whose server runs.
pub(crate) fn open(path: Option<&Path>) -> Outcome<Server> {
    match path {
        Some(path) => Server::open(path, Access::Read),
        None => find(),
    }
}

/// Opens the segment of a running server to send it a request.
pub(crate) fn open_to_ask(path: Option<&Path>) -> Outcome<(Server, Segment)> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => find()?.path().to_owned(),
    };
    let server = Server::open(&path, Access::Write)?;
    server.check_running()?;
    let segment = memory_of(&server, "the server's memory")?;
    Ok((server, segment))
}

/// Returns the memory of a process group, to which a request can be written.
pub(crate) fn memory_of_group(of_group: &Server) -> Outcome<Segment> {
    memory_of(of_group, "the memory of the process group")
}

/// Returns the memory itself, to which a request can be written. `what` names it.
fn memory_of(server: &Server, what: &str) -> Outcome<Segment> {
    server.memory().ok_or_else(|| {
        Failure::new(format!(
            "{}: {what} is not where the file says, or is another user's.",
            server.path().display()
        ))
        .remedy("A graceful restart makes the file anew: apachectl graceful")
    })
}

fn find() -> Outcome<Server> {
    let mut refused = None;
    let mut found = Vec::new();
    let (candidates, unfit) = candidates();
    for path in candidates {
        match Server::open(&path, Access::Read) {
            Ok(server) => found.push(server),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    if found.len() > 1 {
        // If none or several servers run, the failure names all segments.
        let (running, others): (Vec<Server>, Vec<Server>) =
            found.into_iter().partition(Server::is_running);
        if running.len() != 1 {
            let names = running.iter().chain(&others);
            let names = names.map(|server| format!("  --segment {}", server.path().display()));
            return Err(Failure::new("there are several servers; say which:")
                .remedy(names.collect::<Vec<_>>().join("\n")));
        }
        found = running;
    }
    found.pop().ok_or_else(|| {
        refused.or(unfit).unwrap_or_else(|| {
            Failure::new(format!(
                "no running server found: there is no {FILE} in {}, nor one of wsgictl serve.",
                FOLDERS.join(", ")
            ))
            .remedy(format!(
                "Name the file, which is in httpd's DefaultRuntimeDir: --segment PATH/{FILE}"
            ))
        })
    })
}

/// Returns the existing files, each once (`/var/run` is often another name of `/run`), and a failure if the folder of
/// `wsgictl serve` cannot be trusted.
fn candidates() -> (Vec<PathBuf>, Option<Failure>) {
    let system = FOLDERS.iter().map(PathBuf::from);
    let base = private_folder::base();
    let unfit = private_folder::check_own(&base).err();
    let own = match unfit {
        None => std::fs::read_dir(base).ok(),
        Some(_) => None,
    };
    let own = own.into_iter().flatten();
    let own = own.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in system.chain(own).map(|folder| folder.join(FILE)) {
        let path = match path.canonicalize() {
            Ok(path) => path,
            // The file is in another user's folder: opening it later gives the reason.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => path,
            Err(_) => continue,
        };
        if !found.contains(&path) {
            found.push(path);
        }
    }
    (found, unfit)
}
