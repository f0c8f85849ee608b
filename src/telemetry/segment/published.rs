//! The file by which processes find a segment. Its header names the process and the descriptor of the memory; a copy of
//! the memory follows the header.
//!
//! The memory is behind a descriptor of the server's parent; root and the server's own user can open it
//! (`/proc/PID/fd`). The copy is for users who may read the file but not the memory, and for the time after the server
//! was killed. Only the parent writes the file, and it takes the header from its own variables: children can write to
//! the memory, but not to the file.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread};

use super::layout;
use super::layout::{Geometry, HEADER_WORDS, header};
use super::mapped::{Mismatch, Segment};
use super::memory;
use crate::clock;

/// Most bytes that are copied into the file. A larger memory is not copied.
pub const LARGEST_COPY: u64 = 32 << 20;
/// Most bytes that are read from the file of another process.
const LARGEST_READ: u64 = 256 << 20;

/// Bytes of a block, as `stat(2)` counts them.
const BLOCK: u64 = 512;

const HEADER: u64 = HEADER_WORDS as u64 * 8;

/// The header of the file: where the memory is, and whether the file has a copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Process that made the segment.
    pub parent: u32,
    /// Unix time at which the segment was made, nanoseconds.
    pub start: u64,
    /// Where the memory is; `None` if there is only the file.
    pub memory: Option<Memory>,
    /// Unix time at which the memory was copied into the file, nanoseconds; 0 if it was not copied.
    pub copied: u64,
}

/// The memory behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Number of the descriptor in the parent.
    pub descriptor: u32,
    /// Number of the inode, to check that the descriptor is still that of the memory.
    pub inode: u64,
}

impl Location {
    /// Reads the location from the first words of a file.
    ///
    /// # Errors
    /// There are too few words.
    pub fn of(header: &[u64]) -> Result<Self, Mismatch> {
        let word = |at: usize| header.get(at).copied().ok_or(Mismatch::TooShort);
        let descriptor = word(header::DESCRIPTOR)?.checked_sub(1);
        let descriptor = descriptor.and_then(|number| u32::try_from(number).ok());
        let inode = word(header::INODE)?;
        Ok(Self {
            parent: u32::try_from(word(header::PARENT)?).unwrap_or(0),
            start: word(header::START)?,
            memory: descriptor.map(|descriptor| Memory { descriptor, inode }),
            copied: word(header::COPIED)?,
        })
    }
}

/// Whether [`publish`] copied the memory into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The memory was copied.
    Whole,
    /// The memory is too large to be copied.
    TooLarge,
}

/// What the parent knows of the segment that it publishes, apart from the segment's own words.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Process id of the parent.
    pub parent: u32,
    /// Unix time at which the parent made the segment, nanoseconds.
    pub start: u64,
    /// Number of the parent's descriptor of the memory.
    pub descriptor: u32,
}

/// Writes the file of `segment`, whose memory is behind `memory`. For the parent: it trusts nothing that children may
/// have written into the header.
///
/// # Errors
/// Those of reading and writing.
pub fn publish(
    segment: &Segment,
    memory: impl AsFd,
    known: Origin,
    file: &File,
) -> io::Result<Copied> {
    let bytes = segment.geometry().bytes() as u64;
    let memory = File::from(memory.as_fd().try_clone_to_owned()?);
    let found = memory.metadata()?;
    let inode = found.ino();
    file.set_len(bytes)?;
    let copy = if found.blocks() * BLOCK > LARGEST_COPY {
        Err(ErrorKind::FileTooLarge.into())
    } else {
        read_data(&memory, HEADER..bytes, LARGEST_COPY, |at, data| {
            file.write_all_at(data, at)
        })
    };
    let copied = match copy {
        Ok(()) => Copied::Whole,
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Copied::TooLarge,
        Err(error) => return Err(error),
    };
    let at = match copied {
        Copied::Whole => clock::unix(),
        Copied::TooLarge => 0,
    };
    // The header is written last, since a file without it is not valid.
    let header = header(segment, known, inode, at);
    file.write_all_at(&header, 0).map(|()| copied)
}

fn header(segment: &Segment, known: Origin, inode: u64, copied: u64) -> Vec<u8> {
    let geometry = segment.geometry();
    let cells = &segment.cells()[..HEADER_WORDS];
    let mut words: Vec<u64> = cells.iter().map(|cell| cell.load(Relaxed)).collect();
    for (at, word) in [
        (header::MAGIC, layout::MAGIC),
        (header::LAYOUT, Segment::LAYOUT),
        (header::ARENAS, geometry.arenas as u64),
        (header::APPLICATIONS, geometry.applications as u64),
        (header::SERIES, geometry.series as u64),
        (header::DESCRIPTOR, u64::from(known.descriptor) + 1),
        (header::INODE, inode),
        (header::PARENT, known.parent.into()),
        (header::START, known.start),
        (header::COPIED, copied),
    ] {
        words[at] = word;
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A copy of a file's content in memory of this process: truncating or writing to the file does no harm.
pub struct Mirror {
    file: File,
    segment: Segment,
}

impl Mirror {
    /// Makes a mirror of a file whose header claims this geometry. Reads nothing yet. The memory is never unmapped.
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub fn new(file: File, geometry: Geometry) -> io::Result<Self> {
        let cells = memory::anonymous(geometry.words())?;
        let segment = Segment::known(cells, geometry).map_err(io::Error::other)?;
        Ok(Self { file, segment })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// Those of reading; [`ErrorKind::UnexpectedEof`] if the file has become shorter than its segment, and
    /// [`ErrorKind::FileTooLarge`] if more than 256 MiB of it are data.
    pub fn look(&self) -> io::Result<Segment> {
        let bytes = self.segment.geometry().bytes() as u64;
        let is_whole = || Ok::<_, io::Error>(self.file.metadata()?.len() >= bytes);
        let cells = self.segment.cells();
        read_data(&self.file, 0..bytes, LARGEST_READ, |at, data| {
            let from = usize::try_from(at / 8).unwrap_or(usize::MAX);
            let words = data.as_chunks::<8>().0.iter();
            for (cell, word) in cells.iter().skip(from).zip(words) {
                let word = u64::from_ne_bytes(*word);
                // Storing a zero over a zero would take memory for words that were never written.
                if cell.load(Relaxed) != word {
                    cell.store(word, Relaxed);
                }
            }
            Ok(())
        })?;
        if is_whole()? {
            Ok(self.segment)
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Passes the data of a file within `range` to `take`, without the holes, in parts that begin at a word. Ends early if
/// the file does.
fn read_data(
    file: &File,
    range: Range<u64>,
    most: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut part = vec![0; PART];
    let mut left = most;
    let mut at = range.start;
    while at < range.end {
        let data = seek(file, SeekFrom::Data(at));
        let data = data.and_then(|begin| Ok((begin, seek(file, SeekFrom::Hole(begin))?)));
        let (begin, end) = match data {
            Ok((begin, end)) => (begin.max(at) & !7, end),
            // Only a hole is left, or the file was truncated.
            Err(Errno::NXIO) => return Ok(()),
            // The file system does not report holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (at, range.end),
            Err(error) => return Err(error.into()),
        };
        at = begin;
        // At least a word, so that the loop ends whatever the file system reports.
        let end = end.max(at + 8).min(range.end);
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(PART).min(PART);
            let read = match pread(file, &mut part[..length], at) {
                Err(Errno::INTR) => continue,
                read => read? & !7,
            };
            if read == 0 {
                return Ok(());
            }
            left = left
                .checked_sub(read as u64)
                .ok_or(ErrorKind::FileTooLarge)?;
            take(at, &part[..read])?;
            at += read as u64;
        }
    }
    Ok(())
}

/// Bytes that are read at a time.
const PART: usize = 64 * 1024;
