//! The requests that this process has accepted and not yet finished, by the httpd thread that each belongs to.

use std::cell::OnceCell;
use std::ffi::c_ulong;
use std::sync::{Arc, Mutex};

use wsgi_abi::Nesting;
use wsgi_telemetry::clock;

use crate::request::nesting::Lender;
use crate::request::permit::PermitSource;
use crate::request::state::RequestState;
use crate::sync::lock;

/// The requests of one thread: more than one where httpd runs one inside of another.
type Requests = Mutex<Vec<Arc<RequestState>>>;

/// The requests of all threads that have had one. A thread that ends removes its entry.
static THREADS: Mutex<Vec<Arc<Requests>>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: OnceCell<Mine> = const { OnceCell::new() };
}

struct Mine(Arc<Requests>);

impl Mine {
    fn new() -> Self {
        let requests = Arc::new(Requests::default());
        lock(&THREADS).push(Arc::clone(&requests));
        Self(requests)
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        lock(&THREADS).retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

/// Stands for a request that belongs to the calling thread until this is dropped.
pub(crate) struct Taken(Option<Arc<Requests>>);

/// Adds a request to those of the calling thread.
pub(crate) fn take(request: &Arc<RequestState>) -> Taken {
    // A thread that is ending serves no request any more.
    let mine = MINE.try_with(|mine| Arc::clone(&mine.get_or_init(Mine::new).0));
    let mine = mine.ok();
    if let Some(mine) = &mine {
        lock(mine).push(Arc::clone(request));
    }
    Taken(mine)
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(mine) = &self.0 {
            lock(mine).pop();
        }
    }
}

/// Returns all requests of this process.
pub(crate) fn all() -> Vec<Arc<RequestState>> {
    let threads = lock(&THREADS).clone();
    let requests = threads.iter().flat_map(|requests| lock(requests).clone());
    requests.collect()
}

/// Returns another `Arc` of the request with this state.
pub(crate) fn find(request: &RequestState) -> Option<Arc<RequestState>> {
    let mut all = all().into_iter();
    all.find(|other| std::ptr::eq(&raw const **other, request))
}

/// Returns what the outer requests of a nested one lend, the innermost first.
pub(crate) fn lenders(nesting: Nesting<'_>) -> Vec<Arc<Lender>> {
    let outer = nesting.within.get_or_empty();
    if outer.is_empty() {
        return Vec::new();
    }
    let all = all();
    let find = |id: &u64| {
        let mut all = all.iter().map(|request| request.lender());
        all.find(|lender| lender.id() == *id).map(Arc::clone)
    };
    outer.iter().filter_map(find).collect()
}

/// Returns how many threads have nothing left to do for their requests and have not returned, because the requests were
/// given up.
pub fn stuck() -> u32 {
    let found = all().iter().filter(|request| request.is_given_up()).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// Returns the CPU time of the threads that run requests with permits of `source`, in nanoseconds.
pub(crate) fn cpu_time_inside(source: &dyn PermitSource) -> u64 {
    let times = all().into_iter();
    let times = times.filter_map(|request| request.deadline().cpu_time(source));
    times.sum()
}

/// Describes the request that a thread, as CPython knows it, works at: `GET /path since 3.2 s`.
pub(crate) fn describe(ident: c_ulong) -> Option<String> {
    let now = clock::now();
    let mut all = all().into_iter();
    let is_there = |request: &Arc<RequestState>| {
        let inside = request.deadline().inside();
        inside.is_some_and(|(_, other)| other == ident)
    };
    let request = all.find(is_there)?;
    let seconds = request.deadline().age(now) as f64 / 1e9;
    Some(format!("{} since {seconds:.1} s", request.line()))
}
