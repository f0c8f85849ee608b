//! What the MPM and httpd report about the server.

use std::ffi::{CStr, c_int};
use std::time::Duration;

use crate::{c_bytes, log, sys};

/// Returns the answer of `ap_mpm_query`; `None` where the MPM does not know the code.
pub fn query(code: u32) -> Option<c_int> {
    let mut answer = 0;
    // SAFETY: writes one int.
    (unsafe { sys::ap_mpm_query(code as c_int, &mut answer) } == 0).then_some(answer)
}

/// Returns the name of the MPM, such as "event".
pub fn name() -> &'static [u8] {
    // SAFETY: a static string of the MPM.
    unsafe { c_bytes(sys::ap_show_mpm()) }
}

/// Returns the banner that `ServerTokens` allows.
pub fn banner() -> Vec<u8> {
    // SAFETY: a string of the configuration pool, copied here.
    unsafe { c_bytes(sys::ap_get_server_banner()) }.to_vec()
}

/// Returns the full description, whatever `ServerTokens` says.
pub fn description() -> Vec<u8> {
    // SAFETY: as above.
    unsafe { c_bytes(sys::ap_get_server_description()) }.to_vec()
}

/// Returns the date on which httpd was built.
pub fn build_date() -> &'static [u8] {
    // SAFETY: a static string.
    unsafe { c_bytes(sys::ap_get_server_built()) }
}

/// The release of httpd whose headers the module was compiled with.
pub const VERSION: [u32; 3] = [
    sys::AP_SERVER_MAJORVERSION_NUMBER,
    sys::AP_SERVER_MINORVERSION_NUMBER,
    sys::AP_SERVER_PATCHLEVEL_NUMBER,
];

/// Returns how long an idle connection of the main server stays open (`KeepAliveTimeout`).
pub fn keep_alive_timeout() -> Duration {
    // SAFETY: null, or the main server of the configuration in force.
    let timeout = unsafe { log::main_server().as_ref() }.map_or(0, |main| main.keep_alive_timeout);
    Duration::from_micros(u64::try_from(timeout).unwrap_or(0))
}

/// Returns whether httpd runs as one process: `-X`, which the MPMs know as `-DDEBUG`, or `-DONE_PROCESS`.
pub fn single_process() -> bool {
    is_defined(c"DEBUG") || is_defined(c"ONE_PROCESS")
}

/// Returns whether the command line or the configuration has a `Define` of this name.
fn is_defined(name: &CStr) -> bool {
    // SAFETY: a lookup by name.
    unsafe { sys::ap_exists_config_define(name.as_ptr()) != 0 }
}

/// Returns whether the MPM of this process is stopping.
pub fn is_stopping() -> bool {
    query(sys::AP_MPMQ_MPM_STATE) == Some(sys::AP_MPMQ_STOPPING as c_int)
}

/// Returns the number of the configuration in force, which the MPM raises at each restart. For the parent.
pub(crate) fn generation() -> i32 {
    // SAFETY: reads data of the MPM on the only thread that changes it.
    unsafe { sys::wsgi_shim_generation() }
}

/// Returns whether the server restarts and lets its children finish their requests. For the parent, while it clears the
/// configuration with the number `from`: the MPM has raised the number by then, unless httpd ends, when it may be 0
/// again.
pub(crate) fn restarts_gracefully(from: i32) -> bool {
    // SAFETY: as above; a signal handler has set the flag.
    generation() > from && unsafe { sys::wsgi_shim_is_ungraceful() } == 0
}

/// Returns whether this is the first of the two passes over the configuration at start.
pub(crate) fn is_first_pass() -> bool {
    // SAFETY: a query.
    unsafe {
        sys::ap_state_query(sys::AP_SQ_MAIN_STATE as c_int)
            == sys::AP_SQ_MS_CREATE_PRE_CONFIG as c_int
    }
}
