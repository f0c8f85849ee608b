//! `wsgi_engine_cpXY.so`: the engine table over `wsgi-python`, built once for each minor version of CPython and
//! linked to its libpython. The module opens it in each child with global symbol visibility.
//!
//! Nothing is decided here: each function checks for a panic, turns the `#[repr(C)]` values into Rust ones, and calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use wsgi_abi::{
    ABI_VERSION, BUILD_ID, Bytes, EngineTable, HostTable, RunOutcome, RunRequest, StartConfig,
};
use wsgi_core::outcome::Message;
use wsgi_python::host::{self, Level};
use wsgi_python::{Config, Process};

/// What the module looks for (`wsgi_abi::ENGINE_SYMBOL`).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static wsgi_engine: EngineTable = EngineTable {
    abi_version: ABI_VERSION,
    build_id: Bytes::new(BUILD_ID.as_bytes()),
    python: Bytes::new(wsgi_python::VERSION.as_bytes()),
    start,
    load,
    run,
    stop,
};

unsafe extern "C" fn start(
    host: *const HostTable,
    config: *const StartConfig,
    problem: *mut Bytes,
) -> bool {
    static PROBLEM: OnceLock<String> = OnceLock::new();
    log_panics();
    let result = guard(
        Err(String::from("the engine panicked; the log says where")),
        || {
            // SAFETY: the module hands over a table that lives for ever, whose functions keep their contract, and a
            // configuration that is valid during the call.
            let (host, config) = unsafe { (&*host, &*config) };
            if host.abi_version != ABI_VERSION {
                return Err(format!(
                    "the module speaks version {} of the contract, not {ABI_VERSION}",
                    host.abi_version
                ));
            }
            // SAFETY: as above; the build id is a constant of the module.
            unsafe {
                if host.build_id.get_or_empty() != BUILD_ID.as_bytes() {
                    return Err(format!(
                        "the module is of {}, not of {BUILD_ID}",
                        String::from_utf8_lossy(host.build_id.get_or_empty())
                    ));
                }
                host::set(host);
                wsgi_python::start(config_from(config))
            }
        },
    );
    match result {
        Ok(()) => true,
        Err(text) => {
            let text = PROBLEM.get_or_init(|| text);
            // SAFETY: the module hands over a place for the answer.
            unsafe { problem.write(Bytes::new(text.as_bytes())) };
            false
        }
    }
}

unsafe extern "C" fn load(group: Bytes, script: Bytes) -> bool {
    // SAFETY: valid during the call, by contract of the table.
    guard(false, || unsafe {
        wsgi_python::load(group.get_or_empty(), script.get_or_empty())
    })
}

unsafe extern "C" fn run(request: *const RunRequest) -> RunOutcome {
    // SAFETY: a request of the module, valid until this returns, by contract of the table.
    guard(RunOutcome::Failed, || unsafe {
        wsgi_python::run(&*request)
    })
}

unsafe extern "C" fn stop() {
    guard((), wsgi_python::stop);
}

/// No panic crosses into C.
fn guard<R>(failed: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(failed)
}

/// Panics say where they come from in httpd's log instead of on the terminal.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| String::from("an unknown place"), ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text");
        host::log(Level::Critical, &Message::Panic.line(&[&place, &text]));
    }));
}

/// # Safety
/// What `raw` points at must be valid.
unsafe fn config_from(raw: &StartConfig) -> Config {
    // SAFETY: by contract, of every field.
    unsafe {
        let owned = |bytes: Bytes| bytes.get().map(<[u8]>::to_vec);
        let warnings = if raw.warnings.is_null() {
            &[][..]
        } else {
            std::slice::from_raw_parts(raw.warnings, raw.warnings_len)
        };
        Config {
            program_name: owned(raw.program_name),
            home: owned(raw.home),
            warnings: warnings
                .iter()
                .map(|warning| warning.get_or_empty().to_vec())
                .collect(),
            optimize: raw.optimize,
            hash_seed: u32::try_from(raw.hash_seed).ok(),
            write_bytecode: raw.write_bytecode,
            process: Process {
                python_eggs: owned(raw.python_eggs),
                single_process: raw.single_process,
                multithread: raw.multithread,
                multiprocess: raw.multiprocess,
                maximum_processes: raw.maximum_processes,
                threads_per_process: raw.threads_per_process,
                apache_version: raw.apache_version,
                server_description: raw.server_description.get_or_empty().to_vec(),
                mpm_name: raw.mpm_name.get_or_empty().to_vec(),
                build_date: raw.build_date.get_or_empty().to_vec(),
                server_software: raw.server_software.get_or_empty().to_vec(),
            },
        }
    }
}
