//! Finds and opens the engine for the configured Python, as the unprivileged user of the child.
//!
//! Engines lie beside the module: `wsgi_engine_cp311.so` for CPython 3.11. `wsgi_engine.so`, a link to one of them, is
//! the default. Each possible failure has its own message.

use std::ffi::{CStr, OsStr, OsString, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use wsgi_abi::{ABI_VERSION, BUILD_ID, ENGINE_SYMBOL, Engine, EngineTable, StartConfig};
use wsgi_core::messages::Message;
use wsgi_core::python_home::{self, PythonHome};

use super::host::{self, HostRequests};
use crate::config::inherited::Process;
use crate::log::log_message;

/// An engine that was opened, and the Python that it will run.
pub(crate) struct Found {
    table: &'static EngineTable,
    pub(crate) home: Option<PythonHome>,
}

impl Found {
    /// Returns whether the engine is for a free-threaded build of Python.
    pub(crate) fn is_free_threaded(&self) -> bool {
        self.table.python.get_or_empty().ends_with(b"t")
    }

    /// Starts Python. The error says why Python does not run.
    pub(crate) fn start(
        &self,
        config: &StartConfig<'_>,
    ) -> Result<Engine<HostRequests>, &'static [u8]> {
        // SAFETY: the table is made for `HostRequest`, whose methods keep nothing of a request. [S-11]
        unsafe { Engine::start(self.table, &host::TABLE, config) }
    }
}

/// Opens the engine. The log says why if that fails.
pub(crate) fn open(process: &Process) -> Option<Found> {
    let beside = module_path()
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let default = default_engine(&beside);
    let home = match &process.python.home {
        Some(home) => {
            let version = default
                .as_ref()
                .and_then(|default| default.version.as_deref())
                .unwrap_or_default();
            match python_home::inspect(Path::new(home), version) {
                Ok(home) => Some(home),
                Err(problem) => {
                    log_message(Message::PythonHome, &[&process.home_setting, &problem]);
                    return None;
                }
            }
        }
        None => None,
    };
    let (file, version) = match (&home, default) {
        (Some(home), _) => (
            beside.join(engine_name(&home.version)),
            Some(home.version.clone()),
        ),
        (None, Some(default)) => (default.file, default.version),
        (None, None) => (beside.join(DEFAULT_ENGINE), None),
    };
    if let Some(libpython) = home.as_ref().and_then(|home| home.libpython.as_deref()) {
        // It has the name that the engine links to, so the engine gets this library. If it cannot be opened, the
        // engine's error says what is missing.
        let _ = open_and_keep(libpython);
    }
    let library = match open_and_keep(&file) {
        Ok(library) => library,
        Err(error) => {
            let version = version.as_deref().unwrap_or("3");
            log_message(Message::EngineMissing, &[&version, &file.display(), &error]);
            return None;
        }
    };
    let table = table_of(library, &file, version.as_deref())?;
    Some(Found { table, home })
}

/// The engine for servers without `WSGIPythonHome`.
const DEFAULT_ENGINE: &str = "wsgi_engine.so";

struct Default {
    file: PathBuf,
    /// The version in the file name; `None` if the name has none.
    version: Option<String>,
}

/// Returns the file `DEFAULT_ENGINE`, usually a link to another engine, or else the only engine in the folder.
fn default_engine(beside: &Path) -> Option<Default> {
    let file = beside.join(DEFAULT_ENGINE);
    if file.exists() {
        let version = std::fs::read_link(&file)
            .ok()
            .and_then(|target| version_of(target.file_name()?));
        return Some(Default { file, version });
    }
    let mut engines = std::fs::read_dir(beside)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let version = version_of(&entry.file_name())?;
            Some(Default {
                file: entry.path(),
                version: Some(version),
            })
        });
    let only = engines.next()?;
    engines.next().is_none().then_some(only)
}

fn engine_name(version: &str) -> OsString {
    OsString::from(format!("wsgi_engine_cp{}.so", version.replace('.', "")))
}

/// Returns "3.11" for "wsgi_engine_cp311.so", and "3.14t" for "wsgi_engine_cp314t.so", which is for a free-threaded
/// build.
fn version_of(name: &OsStr) -> Option<String> {
    let digits = name
        .to_str()?
        .strip_prefix("wsgi_engine_cp3")?
        .strip_suffix(".so")?;
    let minor = digits.strip_suffix('t').unwrap_or(digits);
    minor
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| format!("3.{digits}"))
}

/// Opens a library with the visibility that Python's extension modules need, and never closes it.
fn open_and_keep(file: &Path) -> Result<&'static Library, String> {
    // SAFETY: the initializers of a libpython and of an engine do nothing that depends on the process. [S-9]
    unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) }
        .map(|library| &*Box::leak(Box::new(library)))
        .map_err(|error| chain(&error))
}

/// Returns the text of an error and of its cause.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Returns the table of an engine if the engine is of this build and for `version`.
fn table_of(
    library: &'static Library,
    file: &Path,
    version: Option<&str>,
) -> Option<&'static EngineTable> {
    let module = module_path();
    let mismatch = |theirs: &str| {
        let values: [&dyn std::fmt::Display; 4] =
            [&module.display(), &BUILD_ID, &file.display(), &theirs];
        log_message(Message::AbiMismatch, &values);
    };
    // SAFETY: the symbol is a table, or at least begins with the version, which is checked first; what the fields point
    // at is constant.
    unsafe {
        let Ok(symbol) = library.get::<*const EngineTable>(ENGINE_SYMBOL) else {
            mismatch("no engine");
            return None;
        };
        let table = *symbol;
        if (*table).abi_version != ABI_VERSION {
            mismatch(&format!("contract version {}", (*table).abi_version));
            return None;
        }
        let table = &*table;
        let build_id = table.build_id.get_or_empty();
        if build_id != BUILD_ID.as_bytes() {
            mismatch(&String::from_utf8_lossy(build_id));
            return None;
        }
        let python = String::from_utf8_lossy(table.python.get_or_empty()).into_owned();
        if let Some(version) = version
            && python != version
        {
            log_message(
                Message::EngineVersion,
                &[&file.display(), &python, &version],
            );
            return None;
        }
        Some(table)
    }
}

/// Returns the path from which this module was loaded.
fn module_path() -> PathBuf {
    let here: *const c_void = (module_path as fn() -> PathBuf as *const ()).cast();
    // SAFETY: looks up an address of this library; the name is a C string of the dynamic linker.
    unsafe {
        let mut info = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(here, &mut info) == 0 || info.dli_fname.is_null() {
            return PathBuf::new();
        }
        PathBuf::from(OsString::from_vec(
            CStr::from_ptr(info.dli_fname).to_bytes().to_vec(),
        ))
    }
}

/// Returns a path as bytes.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
