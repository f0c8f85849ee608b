//! Passes on what pyo3's build found out about the Python: the `Py_3_x` cfgs, the path of the interpreter that is the
//! engine's default, and the directory of its libpython (for the unit tests).

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    let config = pyo3_build_config::get();
    if let Some(executable) = config.executable() {
        println!("cargo::rustc-env=WSGI_ENGINE_PYTHON={executable}");
    }
    let (version, kind) = (config.version(), config.target_abi().kind());
    let abi = if kind.is_free_threaded() { "t" } else { "" };
    println!(
        "cargo::rustc-env=WSGI_ENGINE_VERSION={}.{}{abi}",
        version.major, version.minor
    );
    if let Some(dir) = config.lib_dir() {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{dir}");
    }
}
