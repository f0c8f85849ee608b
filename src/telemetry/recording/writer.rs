//! The arenas of this process: one for the child itself, one for each thread that records.
//!
//! A thread takes its arena at its first record and keeps it. When the thread ends, the arena goes to the next new
//! thread of the process. A child never returns an arena to the segment: only the parent frees arenas, once no thread
//! of the child can write any more.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError};

use crate::segment::{Arena, Owner, Role, Segment};
use crate::sync::{Mutex, MutexGuard};

use super::recorder::ArenaSource;

pub(crate) struct Writer {
    segment: Segment,
    owner: Owner,
    process: Arena,
    /// Arenas of threads that have ended.
    spare: Mutex<Vec<u32>>,
}

static WRITER: OnceLock<Writer> = OnceLock::new();

/// Set in a process that the application forked. Such a process is a copy of its parent and must not write.
static DETACHED: AtomicBool = AtomicBool::new(false);

/// Pause between attempts of threads without an arena to find one, nanoseconds.
const RETRY: u64 = 1_000_000_000;

/// Stamp at which a thread of this process last found no arena. The search takes long if all arenas are taken.
static TRIED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<Option<Arena>> = const { Cell::new(None) };
    /// Passes the arena on to the next thread when this thread ends.
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

    /// Returns an arena for a thread that has none: one that an ended thread left, or a free one.
    pub(crate) fn take(&self, thread: u32) -> Option<u32> {
        let Some(spare) = self.spare().pop() else {
            return self.segment.claim(self.owner, thread, Role::Thread);
        };
        self.segment.arena_of(spare).hand_over(self.owner, thread);
        Some(spare)
    }

    /// Takes back the arena of a thread that ended.
    pub(crate) fn leave(&self, index: u32) {
        self.spare().push(index);
    }

    fn spare(&self) -> MutexGuard<'_, Vec<u32>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes this process record, as one that serves the configuration `generation`. A second call only changes the
/// generation: httpd in single-process mode (`-X`) restarts within the process.
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

/// Returns the flag that is set if this process is a copy that must not write. For code that keeps cells of an arena.
#[inline]
pub fn detached() -> &'static AtomicBool {
    &DETACHED
}

/// Stops all recording of this process. Takes no lock, since it runs on the child's side of a fork.
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

/// Returns this process as the owner of its arenas.
pub fn owner() -> Option<Owner> {
    writer().map(|writer| writer.owner)
}

/// Returns the arena of the child as a whole, which all threads may write to.
pub fn process() -> Option<Arena> {
    writer().map(|writer| writer.process)
}

/// The arenas of a process of the module, which [`start`] makes record.
pub struct OfThisProcess;

impl ArenaSource for OfThisProcess {
    fn may_record(&self) -> bool {
        !DETACHED.load(Relaxed)
    }

    fn owner(&self) -> Option<Owner> {
        owner()
    }

    fn of_thread(&self) -> Option<Arena> {
        current()
    }

    fn of_child(&self) -> Option<Arena> {
        process()
    }
}

/// Sets the role of the child.
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

/// Returns the arena of the calling thread; `None` if this process does not record. `now` is the current stamp.
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

/// Returns the arena of the calling thread, for callers without a current stamp.
#[inline]
pub fn current() -> Option<Arena> {
    let known = MINE.get().filter(|_| !DETACHED.load(Relaxed));
    known.or_else(|| arena(crate::clock::now()))
}

#[cold]
fn first(writer: &Writer, now: u64) -> Arena {
    let spill = writer.segment.spill();
    let tried = TRIED.load(Relaxed);
    // At the end of a thread its keeper may already be dropped; nothing would pass the arena on to another thread.
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
