//! Tells two versions of a file apart.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file: its path, and its inode number, size, time of contents and time of any change; `None` if there is no such
/// file.
pub(crate) type Stamp = (PathBuf, Option<[i64; 4]>);

/// Returns the current stamp of the file with this path.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok().map(|found| {
        let number = |number: u64| number.cast_signed();
        let modified = nanoseconds(found.mtime(), found.mtime_nsec());
        [
            number(found.ino()),
            number(found.size()),
            modified,
            changed(&found),
        ]
    });
    (path.to_path_buf(), found)
}

/// Returns when a file was last changed in any way, as Unix time in nanoseconds. Programs can set the time of the
/// contents back, but not this one.
pub(crate) fn changed(found: &fs::Metadata) -> i64 {
    nanoseconds(found.ctime(), found.ctime_nsec())
}

fn nanoseconds(seconds: i64, part: i64) -> i64 {
    seconds.wrapping_mul(1_000_000_000).wrapping_add(part)
}
