//! How messages name a request.

use wsgi_abi::{EnvEntry, RunRequest, keys};

/// Returns the method and the path of a request, without its query, which may hold secrets.
pub(super) fn method_and_path<'r>(run: &RunRequest<'r>) -> (&'r [u8], &'r [u8]) {
    let value = |id| EnvEntry::value_of(run.environ.entries.get_or_empty(), id);
    let uri = value(keys::REQUEST_URI);
    let path = uri.split(|byte| *byte == b'?').next().unwrap_or_default();
    (value(keys::REQUEST_METHOD), path)
}
