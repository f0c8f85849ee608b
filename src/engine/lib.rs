//! `wsgi_engine_cpXY.so`: the engine table over `wsgi-python`, built once for each minor version of CPython and
//! linked to its libpython. The module opens it in each child with global symbol visibility.
//!
//! This crate decides nothing: each function catches panics, converts the `#[repr(C)]` values to Rust ones, and calls
//! `wsgi-python`.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use wsgi_abi::{
    ABI_VERSION, BUILD_ID, Bytes, EngineTable, HostTable, RunOutcome, RunRequest, StartConfig,
    guard,
};
use wsgi_core::messages::Message;
use wsgi_python::host::{self, Level};
use wsgi_python::{Config, Process};

/// The symbol that the module looks up (`wsgi_abi::ENGINE_SYMBOL`).
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static wsgi_engine: EngineTable = EngineTable {
    abi_version: ABI_VERSION,
    build_id: Bytes::new(BUILD_ID.as_bytes()),
    python: Bytes::new(wsgi_python::VERSION.as_bytes()),
    start,
    load,
    replicas,
    changed_source,
    dump_stacks,
    signal,
    stuck,
    waiting,
    run,
    hold,
    stop,
};

extern "C" fn start(
    host: &'static HostTable,
    config: &StartConfig<'_>,
    problem: &mut Bytes<'static>,
) -> bool {
    log_panics();
    let panicked = Err(String::from("the engine panicked; the log says where"));
    match guard(|| panicked, || start_python(host, config)) {
        Ok(()) => true,
        Err(text) => {
            *problem = wsgi_abi::keep(text);
            false
        }
    }
}

fn start_python(host: &'static HostTable, config: &StartConfig<'_>) -> Result<(), String> {
    if host.abi_version != ABI_VERSION {
        let theirs = host.abi_version;
        return Err(format!(
            "the module speaks version {theirs} of the contract, not {ABI_VERSION}"
        ));
    }
    let theirs = host.build_id.get_or_empty();
    if theirs != BUILD_ID.as_bytes() {
        let theirs = String::from_utf8_lossy(theirs);
        return Err(format!("the module is of {theirs}, not of {BUILD_ID}"));
    }
    // SAFETY: the table has this version and build, and its functions keep the contract.
    unsafe { host::set(host) };
    wsgi_python::start(config_from(config))
}

extern "C" fn load(group: Bytes<'_>, script: Bytes<'_>, app: u16) -> bool {
    guard(
        || false,
        || wsgi_python::load(group.get_or_empty(), script.get_or_empty(), app),
    )
}

extern "C" fn replicas(group: Bytes<'_>) -> u32 {
    guard(|| 0, || wsgi_python::replicas(group.get_or_empty()))
}

unsafe extern "C" fn changed_source(
    data: *mut c_void,
    take: unsafe extern "C" fn(data: *mut c_void, path: Bytes<'_>),
) {
    if let Some(path) = guard(|| None, wsgi_python::changed_source) {
        // SAFETY: the module passes a function together with the data for it.
        unsafe { take(data, Bytes::new(&path)) };
    }
}

unsafe extern "C" fn dump_stacks(
    patience_ms: u32,
    data: *mut c_void,
    take: unsafe extern "C" fn(data: *mut c_void, text: Bytes<'_>),
) {
    let patience = Duration::from_millis(patience_ms.into());
    let panicked = String::from("The engine panicked; the log says where.\n");
    let text = guard(|| panicked, || wsgi_python::dump(patience));
    // SAFETY: the module passes a function together with the data for it.
    unsafe { take(data, Bytes::new(text.as_bytes())) };
}

extern "C" fn signal(number: c_int) {
    guard(|| (), || wsgi_python::signal(number));
}

extern "C" fn stuck() -> u32 {
    guard(|| 0, wsgi_python::stuck)
}

extern "C" fn waiting() -> u32 {
    guard(|| 0, wsgi_python::waiting)
}

unsafe extern "C" fn run(request: &RunRequest<'_>) -> RunOutcome {
    // SAFETY: by the contract of the table, the request's host belongs to the table that the engine was started with.
    guard(
        || RunOutcome::Failed,
        || unsafe { wsgi_python::run(request) },
    )
}

extern "C" fn hold() {
    guard(|| (), wsgi_python::hold);
}

extern "C" fn stop(reason: Bytes<'_>) {
    let reason = String::from_utf8_lossy(reason.get_or_empty());
    guard(|| (), || wsgi_python::stop(&reason));
}

/// Makes panics write their source location to httpd's log instead of the terminal.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| String::from("an unknown place"), ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text");
        host::log(Level::Critical, &Message::Panic.line(&[&place, &text]));
    }));
}

fn config_from(raw: &StartConfig<'_>) -> Config {
    let owned = |bytes: Bytes<'_>| bytes.get_or_empty().to_vec();
    let optional = |bytes: Bytes<'_>| bytes.get().map(<[u8]>::to_vec);
    Config {
        program_name: optional(raw.program_name),
        home: optional(raw.home),
        warnings: raw
            .warnings
            .get_or_empty()
            .iter()
            .copied()
            .map(owned)
            .collect(),
        optimize: raw.optimize,
        hash_seed: u32::try_from(raw.hash_seed).ok(),
        write_bytecode: raw.write_bytecode,
        free_threading: raw.free_threading,
        at_exit: raw.at_exit,
        exit_timeout: Duration::from_secs(raw.exit_timeout.into()),
        deadlock_timeout: (raw.deadlock_timeout != 0)
            .then(|| Duration::from_secs(raw.deadlock_timeout.into())),
        segment: raw.segment,
        process: Process {
            python_eggs: optional(raw.python_eggs),
            process_group: owned(raw.process_group),
            main_group: owned(raw.main_group),
            single_process: raw.single_process,
            service: raw.service,
            prometheus_client: raw.prometheus_client,
            multiprocess: raw.multiprocess,
            maximum_processes: raw.maximum_processes,
            threads_per_process: raw.threads_per_process,
            apache_version: raw.apache_version,
            server_description: owned(raw.server_description),
            mpm_name: owned(raw.mpm_name),
            build_date: owned(raw.build_date),
            server_software: owned(raw.server_software),
        },
    }
}
