//! The arenas of this process: one for the child itself, one for each thread that records.
//!
//! A thread takes its arena at its first record and keeps it; when it ends, the arena goes to the next new thread of the
//! process. It never goes back to the segment from here: only the parent frees arenas, once nothing of the child can
//! write any more.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError};

use crate::segment::Arena;
use crate::segment::Owner;
use crate::segment::Role;
use crate::segment::Segment;
use crate::sync::{Mutex, MutexGuard};

pub(crate) struct Writer {
    segment: Segment,
    owner: Owner,
    process: Arena,
    /// Arenas of threads that have ended.
    spare: Mutex<Vec<u32>>,
}

static WRITER: OnceLock<Writer> = OnceLock::new();

/// Set in a process that the application forked, whose memory is a copy of its parent's: it must not write.
static DETACHED: AtomicBool = AtomicBool::new(false);

/// How long threads without an arena of their own wait before one of them tries again, nanoseconds.
const RETRY: u64 = 1_000_000_000;

/// When a thread of this process last found no arena, as a stamp. To look for one takes long where all are taken.
static TRIED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<Option<Arena>> = const { Cell::new(None) };
    /// Gives the arena to the next thread when this one ends.
    static KEEPER: Keeper = const { Keeper(Cell::new(None)) };
}

struct Keeper(Cell<Option<u32>>);

impl Drop for Keeper {
    fn drop(&mut self) {
        MINE.set(None);
        if let Some(writer) = WRITER.get()
            && let Some(index) = self.0.get()
            && !DETACHED.load(Relaxed)
        {
            writer.leave(index);
        }
    }
}

impl Writer {
    pub(crate) fn new(segment: Segment, owner: Owner) -> Self {
        let index = segment.claim(owner, 0, Role::Starting);
        Self {
            segment,
            owner,
            process: segment.process_arena_of(index.unwrap_or(0)),
            spare: Mutex::new(Vec::new()),
        }
    }

    /// An arena for a thread that has none: that of one that has ended, or a free one.
    pub(crate) fn take(&self, thread: u32) -> Option<u32> {
        let Some(spare) = self.spare().pop() else {
            return self.segment.claim(self.owner, thread, Role::Thread);
        };
        self.segment.arena_of(spare).hand_over(self.owner, thread);
        Some(spare)
    }

    /// A thread has ended that had this one.
    pub(crate) fn leave(&self, index: u32) {
        self.spare().push(index);
    }

    fn spare(&self) -> MutexGuard<'_, Vec<u32>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes this process, which serves the configuration `generation`, one that records. A second call (httpd run as one
/// process starts again in it) only says that it serves another configuration now.
pub fn start(segment: Segment, generation: u64) {
    let writer = WRITER.get_or_init(|| {
        let owner = Owner::of_this_process(generation);
        Writer::new(segment, owner)
    });
    // The spill arena has no owner.
    if writer.process.index() != 0 {
        writer.process.set_generation(generation);
    }
}

/// Whether this process is a copy that must not write. For code that keeps cells of an arena at hand.
#[inline]
pub fn detached() -> &'static AtomicBool {
    &DETACHED
}

/// Nothing of this process is recorded any more. For the child's side of a fork, so without a lock.
pub fn detach() {
    #[cfg(feature = "faults")]
    if crate::faults::is(crate::faults::Fault::Attached) {
        return;
    }
    DETACHED.store(true, Relaxed);
}

fn writer() -> Option<&'static Writer> {
    if DETACHED.load(Relaxed) {
        None
    } else {
        WRITER.get()
    }
}

/// This process, as the owner of its arenas.
pub fn owner() -> Option<Owner> {
    writer().map(|writer| writer.owner)
}

/// The arena of the child as a whole, which all threads may write to.
pub fn process() -> Option<Arena> {
    writer().map(|writer| writer.process)
}

/// Says what the child is now.
pub fn set_role(role: Role) {
    // The spill arena has no owner.
    if let Some(writer) = writer()
        && writer.process.index() != 0
    {
        writer.process.set_role(role);
        #[cfg(feature = "faults")]
        super::breaking::role_set(&writer.segment, writer.owner, role);
    }
}

/// The arena of the calling thread; `now` is a stamp of this moment. `None` where this process does not record.
#[inline]
pub fn arena(now: u64) -> Option<Arena> {
    if DETACHED.load(Relaxed) {
        return None;
    }
    match MINE.get() {
        Some(arena) => Some(arena),
        None => WRITER.get().map(|writer| first(writer, now)),
    }
}

/// The arena of the calling thread, for callers that have no stamp of this moment.
#[inline]
pub fn current() -> Option<Arena> {
    let known = MINE.get().filter(|_| !DETACHED.load(Relaxed));
    known.or_else(|| arena(crate::clock::now()))
}

#[cold]
fn first(writer: &Writer, now: u64) -> Arena {
    let spill = writer.segment.spill();
    let tried = TRIED.load(Relaxed);
    // While the thread ends its keeper may be gone already, and the arena would not get to another thread.
    if tried != 0 && now.saturating_sub(tried) < RETRY || KEEPER.try_with(|_| ()).is_err() {
        return spill;
    }
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let Some(index) = writer.take(thread.cast_unsigned()) else {
        TRIED.store(now.max(1), Relaxed);
        return spill;
    };
    let arena = writer.segment.arena_of(index);
    KEEPER.with(|keeper| keeper.0.set(Some(index)));
    MINE.set(Some(arena));
    arena
}
