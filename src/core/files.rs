//! Reads files that a configuration names, and refuses what is not a regular file: opening a FIFO waits until another
//! process opens it, and a device may have no end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file was not read.
#[derive(Debug)]
pub enum ReadProblem {
    /// The file cannot be opened or read.
    Io(io::Error),
    /// The path is not a regular file, but this: "a FIFO", "a directory".
    Kind(&'static str),
    /// The file has more bytes than this limit.
    TooLong(u64),
}

impl From<io::Error> for ReadProblem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl std::fmt::Display for ReadProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Kind(kind) => write!(f, "this is {kind}; only regular files are read here"),
            Self::TooLong(limit) => write!(f, "it is longer than {limit} bytes"),
        }
    }
}

impl From<ReadProblem> for io::Error {
    fn from(problem: ReadProblem) -> Self {
        match problem {
            ReadProblem::Io(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

/// Opens a regular file for reading; follows symbolic links. Never waits for the other end of a FIFO. The check is of
/// the opened file, so the path cannot change between check and use.
///
/// # Errors
/// If the file cannot be opened or is not regular.
pub fn open_regular(path: &Path) -> Result<(File, Metadata), ReadProblem> {
    // `NOCTTY`: a terminal must not become the controlling terminal of this process.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        // A socket, for one, cannot be opened at all; report its kind all the same.
        Err(error) => {
            let kind = std::fs::metadata(path).ok().and_then(|found| kind(&found));
            return Err(kind.map_or(ReadProblem::Io(error), ReadProblem::Kind));
        }
    };
    let metadata = file.metadata()?;
    match kind(&metadata) {
        Some(kind) => Err(ReadProblem::Kind(kind)),
        None => Ok((file, metadata)),
    }
}

/// Reads a regular file of at most `limit` bytes, as [`open_regular`] opens it.
///
/// # Errors
/// If the file cannot be opened or read, is not regular, or is longer than `limit`.
pub fn read_regular(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), ReadProblem> {
    let (file, metadata) = open_regular(path)?;
    let size = metadata.len().min(limit);
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A file in /proc has a size of 0, and another file may grow while it is read.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(ReadProblem::TooLong(limit));
    }
    Ok((content, metadata))
}

/// Reads a regular file as [`read_regular`] does, and returns it as UTF-8 text.
///
/// # Errors
/// The same as [`read_regular`], and [`io::ErrorKind::InvalidData`] if the file is not UTF-8.
pub fn read_regular_text(path: &Path, limit: u64) -> Result<String, ReadProblem> {
    let (content, _) = read_regular(path, limit)?;
    String::from_utf8(content)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error).into())
}

/// Returns the kind of a file that is not regular.
fn kind(found: &Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() {
        Some("a character device")
    } else if kind.is_block_device() {
        Some("a block device")
    } else {
        Some("no regular file")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kind_of(path: &Path) -> &'static str {
        match read_regular(path, 10) {
            Err(ReadProblem::Kind(kind)) => kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "0123456789").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for name in ["file", "link"] {
            let (content, metadata) = read_regular(&at(name), 10).unwrap();
            assert_eq!((&content[..], metadata.len()), (&b"0123456789"[..], 10));
        }
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("to-fifo")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(kind_of(&at("fifo")), "a FIFO");
        assert_eq!(kind_of(&at("to-fifo")), "a FIFO");
        assert_eq!(kind_of(&at("socket")), "a socket");
        assert_eq!(kind_of(dir.path()), "a directory");
        assert_eq!(kind_of(Path::new("/dev/zero")), "a character device");
        let missing = read_regular(&at("missing"), 10);
        assert!(
            matches!(missing, Err(ReadProblem::Io(error)) if error.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (length, fits) in [(0, true), (9, true), (10, true), (11, false), (1000, false)] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            match read_regular(&path, 10) {
                Ok((content, _)) => assert!(fits && content.len() == length, "{length}"),
                Err(ReadProblem::TooLong(10)) => assert!(!fits, "{length}"),
                Err(other) => panic!("{length}: {other}"),
            }
        }
        // A file in /proc reports a size of 0.
        assert!(matches!(
            read_regular(Path::new("/proc/self/maps"), 10),
            Err(ReadProblem::TooLong(10))
        ));
        assert!(
            read_regular_text(Path::new("/proc/self/stat"), 1 << 20)
                .unwrap()
                .contains(' ')
        );
    }
}
