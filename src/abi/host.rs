//! The module's side of the contract, as a trait: [`host_table`] makes the C functions from its methods.

use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};

use crate::guard::guard;
use crate::{
    ABI_VERSION, Arenas, BUILD_ID, Bytes, Fault, GilDecision, GroupOptions, HostRequest,
    HostResult, HostTable, Level, Presence, ResponseHead, Retire, Slice, WriteEnd,
};

/// The calls that the engine makes for one request. The field of [`HostTable`] with the same name documents each method.
pub trait RequestHost {
    /// See [`HostTable::log`].
    fn log(&self, level: Level, line: &[u8]);
    /// See [`HostTable::log_beside`]. May run while another thread is in another method.
    fn log_beside(&self, level: Level, line: &[u8]);
    /// See [`HostTable::read_body`].
    fn read_body(&self, into: &mut [u8]) -> HostResult;
    /// See [`HostTable::read_at_hand`].
    fn read_at_hand(&self, into: &mut [u8]) -> HostResult;
    /// See [`HostTable::start_response`].
    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult;
    /// See [`HostTable::write`].
    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult;
    /// See [`HostTable::flush`].
    fn flush(&self) -> HostResult;
    /// See [`HostTable::send_file`].
    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult;
    /// See [`HostTable::cut_response`].
    fn cut_response(&self);
    /// See [`HostTable::client_presence`].
    fn client_presence(&self) -> Presence;
    /// See [`HostTable::give_up`].
    fn give_up(&self);
    /// See [`HostTable::ssl_variable`].
    fn ssl_variable(&self, name: &[u8]) -> Option<&[u8]>;
}

/// The module's side of the contract: one request, and the functions that belong to no request. The field of
/// [`HostTable`] with the same name documents each function.
///
/// `Sync`, as the engine may make a call for a request on another thread than the one that runs it. The calls of one
/// request never overlap, except for `log_beside`.
pub trait Host: Sync {
    /// Returns the request's own calls.
    fn calls(&self) -> &dyn RequestHost;
    /// See [`HostTable::log_server`].
    fn log_server(level: Level, line: &[u8]);
    /// See [`HostTable::group_options`].
    fn group_options(group: &[u8]) -> GroupOptions;
    /// See [`HostTable::gil_decision`].
    fn gil_decision(group: &[u8]) -> GilDecision;
    /// See [`HostTable::gil_decided`].
    fn gil_decided(group: &[u8], choice: GilDecision, module: &[u8]);
    /// See [`HostTable::arenas`].
    fn arenas(now: u64) -> Arenas;
    /// See [`HostTable::retire`].
    fn retire(why: Retire);
}

/// The type of a module's requests, for each lifetime: a request lives as long as httpd lends it.
pub trait Hosts {
    /// A request that lives during `'r`.
    type Host<'r>: Host;
}

/// Returns the table of `H`'s methods. A panic in a method becomes a failure.
pub const fn host_table<H: Host>() -> HostTable {
    HostTable {
        abi_version: ABI_VERSION,
        build_id: Bytes::new(BUILD_ID.as_bytes()),
        log_server: log_server::<H>,
        group_options: group_options::<H>,
        gil_decision: gil_decision::<H>,
        gil_decided: gil_decided::<H>,
        arenas: arenas::<H>,
        log: log::<H>,
        log_beside: log_beside::<H>,
        read_body: read_body::<H>,
        read_at_hand: read_at_hand::<H>,
        start_response: start_response::<H>,
        write: write::<H>,
        flush: flush::<H>,
        send_file: send_file::<H>,
        cut_response: cut_response::<H>,
        client_presence: client_presence::<H>,
        give_up: give_up::<H>,
        retire: retire::<H>,
        ssl_variable: ssl_variable::<H>,
    }
}

fn panicked() -> HostResult {
    HostResult::failed(
        Fault::Server,
        "internal error of mod_wsgi_rs; the error log says where",
    )
}

/// # Safety
/// `request` must be one of an `H` that lives during `'a`, by the contract of the table.
unsafe fn host<'a, H>(request: *const HostRequest) -> &'a H {
    // SAFETY: by contract.
    unsafe { &*request.cast::<H>() }
}

extern "C" fn log_server<H: Host>(level: Level, line: Bytes<'_>) {
    guard(|| (), || H::log_server(level, line.get_or_empty()));
}

extern "C" fn group_options<H: Host>(group: Bytes<'_>) -> GroupOptions {
    guard(GroupOptions::default, || {
        H::group_options(group.get_or_empty())
    })
}

extern "C" fn gil_decision<H: Host>(group: Bytes<'_>) -> GilDecision {
    guard(
        || GilDecision::Shared,
        || H::gil_decision(group.get_or_empty()),
    )
}

extern "C" fn gil_decided<H: Host>(group: Bytes<'_>, choice: GilDecision, module: Bytes<'_>) {
    guard(
        || (),
        || H::gil_decided(group.get_or_empty(), choice, module.get_or_empty()),
    );
}

extern "C" fn arenas<H: Host>(now: u64) -> Arenas {
    guard(|| Arenas::NONE, || H::arenas(now))
}

unsafe extern "C" fn log<H: Host>(request: *const HostRequest, level: Level, line: Bytes<'_>) {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(|| (), || host.calls().log(level, line.get_or_empty()));
}

unsafe extern "C" fn log_beside<H: Host>(
    request: *const HostRequest,
    level: Level,
    line: Bytes<'_>,
) {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(
        || (),
        || host.calls().log_beside(level, line.get_or_empty()),
    );
}

unsafe extern "C" fn read_body<H: Host>(
    request: *const HostRequest,
    into: *mut u8,
    len: usize,
) -> HostResult {
    // SAFETY: by the contract of the table, the engine passes a live request and a buffer of that length.
    let (host, into) = unsafe { (host::<H>(request), buffer(into, len)) };
    guard(panicked, || host.calls().read_body(into))
}

unsafe extern "C" fn read_at_hand<H: Host>(
    request: *const HostRequest,
    into: *mut u8,
    len: usize,
) -> HostResult {
    // SAFETY: as above.
    let (host, into) = unsafe { (host::<H>(request), buffer(into, len)) };
    guard(panicked, || host.calls().read_at_hand(into))
}

/// # Safety
/// `into` must be a buffer of that length during `'a`, unless the length is 0.
unsafe fn buffer<'a>(into: *mut u8, len: usize) -> &'a mut [u8] {
    if len == 0 {
        &mut []
    } else {
        // SAFETY: by contract.
        unsafe { std::slice::from_raw_parts_mut(into, len) }
    }
}

unsafe extern "C" fn start_response<H: Host>(
    request: *const HostRequest,
    head: &ResponseHead<'_>,
) -> HostResult {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(panicked, || host.calls().start_response(head))
}

unsafe extern "C" fn write<H: Host>(
    request: *const HostRequest,
    chunks: Slice<'_, Bytes<'_>>,
    end: WriteEnd,
) -> HostResult {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(panicked, || host.calls().write(chunks.get_or_empty(), end))
}

unsafe extern "C" fn flush<H: Host>(request: *const HostRequest) -> HostResult {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(panicked, || host.calls().flush())
}

unsafe extern "C" fn send_file<H: Host>(
    request: *const HostRequest,
    fd: c_int,
    offset: u64,
    length: u64,
) -> HostResult {
    // SAFETY: by the contract of the table; the engine gives the descriptor away, so it has no other owner. [S-51]
    let (host, file) = unsafe { (host::<H>(request), OwnedFd::from_raw_fd(fd)) };
    guard(panicked, || host.calls().send_file(file, offset, length))
}

unsafe extern "C" fn cut_response<H: Host>(request: *const HostRequest) {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(|| (), || host.calls().cut_response());
}

unsafe extern "C" fn client_presence<H: Host>(request: *const HostRequest) -> Presence {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(|| Presence::Here, || host.calls().client_presence())
}

unsafe extern "C" fn give_up<H: Host>(request: *const HostRequest) {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    guard(|| (), || host.calls().give_up());
}

extern "C" fn retire<H: Host>(why: Retire) {
    guard(|| (), || H::retire(why));
}

unsafe extern "C" fn ssl_variable<H: Host>(
    request: *const HostRequest,
    name: Bytes<'_>,
    data: *mut c_void,
    take: unsafe extern "C" fn(data: *mut c_void, value: Bytes<'_>),
) {
    // SAFETY: by the contract of the table.
    let host = unsafe { host::<H>(request) };
    let value = guard(|| None, || host.calls().ssl_variable(name.get_or_empty()));
    // SAFETY: the engine passes a function together with the data for it.
    unsafe { take(data, value.into()) };
}
