//! How messages name a request.

use wsgi_abi::{KeyKind, RunRequest, keys};

/// Returns the method and the path of a request, without its query, which may hold secrets.
pub(super) fn method_and_path<'r>(run: &RunRequest<'r>) -> (&'r [u8], &'r [u8]) {
    let known = |id: u16| {
        let entries = run.environ.entries.get_or_empty().iter();
        let mut its = entries.filter(|entry| entry.kind == KeyKind::Known && entry.id == id);
        its.next()
            .map_or(&[][..], |entry| entry.value.get_or_empty())
    };
    let uri = known(keys::REQUEST_URI);
    let path = uri.split(|byte| *byte == b'?').next().unwrap_or_default();
    (known(keys::REQUEST_METHOD), path)
}
