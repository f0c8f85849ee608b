//! The threads of a process of a group that run no request, and which of them takes the next one.
//!
//! Where all requests need the same GIL, a thread that is woken for a request while another one is inside Python can
//! only wait for that one: waking it costs more than a short request. So one thread *listens* at a time, and the
//! thread that has just served a request is the first to listen again. While none listens, a *reserve* thread looks
//! once in a [`TICK`] whether requests wait, and takes one if those that run may be waiting for something else than
//! the GIL. All other threads are *parked*.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{
    AtomicU8, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// How often the reserve thread looks. CPython itself lets a thread wait five times as long for the GIL
/// (`sys.getswitchinterval()`).
const TICK: Duration = Duration::from_millis(1);
/// The number of ticks in a row at which another thread listened, after which the reserve thread sleeps.
const QUIET: u32 = 8;
/// How long a thread is idle before it may end.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread without a request does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It may listen.
    Idle,
    /// It is the reserve thread.
    Reserve,
}

/// What a thread is to do next.
pub(super) enum Turn {
    /// Serve what has come on the descriptor that was added with this number. If a role is given, a new thread is needed
    /// for it.
    Serve(u64, Option<Role>),
    /// Nothing has come for long, and other threads listen: the thread may end.
    Spare,
}

/// What the process is doing.
#[derive(Clone, Copy)]
pub(super) struct Activity {
    /// How many requests have begun so far.
    pub(super) begun: u64,
    /// How many requests wait until they may enter Python.
    pub(super) waiting: u32,
}

/// There is no reserve thread.
const NONE: u8 = 0;
/// The reserve thread looks once in a tick.
const LOOKS: u8 = 1;
/// The reserve thread sleeps. Only while another thread listens.
const SLEEPS: u8 = 2;

/// The threads that run no request, and the descriptors that they wait for.
pub(super) struct Turns {
    epoll: OwnedFd,
    /// How many threads may listen at a time.
    most: u32,
    listening: AtomicU32,
    reserve: AtomicU8,
    parked: Mutex<Parked>,
    /// Wakes a parked thread.
    unpark: Condvar,
    /// Wakes the reserve thread.
    rouse: Condvar,
}

#[derive(Default)]
struct Parked {
    count: u32,
    /// The next one that wakes is the reserve thread.
    is_appointed: bool,
}

/// Each event is for one thread, which asks for the next one when it has served the connection.
const ONCE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);

impl Turns {
    /// `shares_gil`: whether all requests need the same GIL. Otherwise all threads may listen.
    pub(super) fn new(shares_gil: bool) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            most: if shares_gil { 1 } else { u32::MAX },
            listening: AtomicU32::new(0),
            reserve: AtomicU8::new(NONE),
            parked: Mutex::default(),
            unpark: Condvar::new(),
            rouse: Condvar::new(),
        })
    }

    /// Waits for the first event of this descriptor, too.
    pub(super) fn add(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            descriptor,
            epoll::EventData::new_u64(number),
            ONCE,
        )?)
    }

    /// Waits for the next event of a descriptor whose last one was served.
    pub(super) fn again(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            descriptor,
            epoll::EventData::new_u64(number),
            ONCE,
        )?)
    }

    /// No longer waits for this descriptor.
    pub(super) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, descriptor)?)
    }

    /// Waits for the calling thread's turn. `role` is its role so far, `progress` tells what the process is doing.
    pub(super) fn next(&self, mut role: Role, progress: impl Fn() -> Activity) -> Turn {
        loop {
            if role == Role::Reserve {
                role = Role::Idle;
                if let Some(number) = self.watch(&progress) {
                    return self.take(number);
                }
            }
            // A request that waits is run by the thread that is inside, or as soon as that one has left. A further one
            // would wait behind it.
            let is_needed = self.reserve.load(SeqCst) != LOOKS || progress().waiting == 0;
            if is_needed && self.begin_to_listen() {
                let number = self.wait(IDLE);
                let others = self.listening.fetch_sub(1, SeqCst) - 1;
                match number {
                    Some(number) => return self.take(number),
                    None if others > 0 => return Turn::Spare,
                    None => {}
                }
            } else if self.become_reserve() {
                role = Role::Reserve;
            } else {
                match self.park() {
                    Some(appointed) => role = appointed,
                    None => return Turn::Spare,
                }
            }
        }
    }

    /// Serves an event. If no thread looks for the next one, another must.
    fn take(&self, number: u64) -> Turn {
        let needed = if self.listening.load(SeqCst) > 0 {
            None
        } else if self.most == u32::MAX {
            Some(Role::Idle)
        } else {
            self.need_reserve().then_some(Role::Reserve)
        };
        Turn::Serve(number, needed)
    }

    /// The new thread for a role could not be made.
    pub(super) fn has_no_thread(&self, role: Role) {
        if role == Role::Reserve {
            self.reserve.store(NONE, SeqCst);
        }
    }

    /// Sees to it that the reserve thread looks. Returns whether a new thread must do so.
    fn need_reserve(&self) -> bool {
        loop {
            match self.reserve.load(SeqCst) {
                LOOKS => return false,
                SLEEPS => {
                    let _parked = self.parked();
                    // It may have been roused since, and may even have left.
                    let roused = self
                        .reserve
                        .compare_exchange(SLEEPS, LOOKS, SeqCst, Relaxed);
                    if roused.is_ok() {
                        self.rouse.notify_one();
                        return false;
                    }
                }
                _ if self.become_reserve() => {
                    let mut parked = self.parked();
                    parked.is_appointed = parked.count > 0;
                    self.unpark.notify_one();
                    return !parked.is_appointed;
                }
                _ => {}
            }
        }
    }

    fn become_reserve(&self) -> bool {
        let became = self.reserve.compare_exchange(NONE, LOOKS, SeqCst, Relaxed);
        became.is_ok()
    }

    fn begin_to_listen(&self) -> bool {
        let more = |listening| (listening < self.most).then_some(listening + 1);
        self.listening.fetch_update(SeqCst, Relaxed, more).is_ok()
    }

    /// Waits for an event.
    fn wait(&self, time: Duration) -> Option<u64> {
        let time = Timespec::try_from(time).ok();
        let mut events = Vec::with_capacity(1);
        let spare = rustix::buffer::spare_capacity(&mut events);
        // An interrupted wait is one without an event.
        let _ = epoll::wait(&self.epoll, spare, time.as_ref());
        events.first().map(|event| event.data.u64())
    }

    /// The work of the reserve thread. Returns an event that it has taken; otherwise it is to listen. Then there is no
    /// reserve thread.
    fn watch(&self, progress: impl Fn() -> Activity) -> Option<u64> {
        let mut begun = progress().begun;
        let mut quiet = 0;
        let number = loop {
            self.nap();
            if self.listening.load(SeqCst) > 0 {
                quiet += 1;
                if quiet >= QUIET {
                    self.sleep();
                    quiet = 0;
                }
                continue;
            }
            quiet = 0;
            let now = progress();
            let is_moving = now.begun != begun;
            begun = now.begun;
            if is_moving && now.waiting > 0 {
                continue;
            }
            let number = self.wait(Duration::ZERO);
            if number.is_some() || !is_moving {
                break number;
            }
        };
        self.reserve.store(NONE, SeqCst);
        number
    }

    /// Waits for a tick.
    fn nap(&self) {
        let parked = self.parked();
        drop(self.rouse.wait_timeout(parked, TICK));
    }

    /// Waits until a thread that listened has taken something.
    fn sleep(&self) {
        let parked = self.parked();
        self.reserve.store(SLEEPS, SeqCst);
        if self.listening.load(SeqCst) == 0 {
            // That thread may not have seen it.
            self.reserve.store(LOOKS, SeqCst);
        }
        let sleeps = |_: &mut Parked| self.reserve.load(SeqCst) == SLEEPS;
        drop(self.rouse.wait_while(parked, sleeps));
    }

    /// Waits until another reserve thread is needed. Returns `None` if none was for long.
    fn park(&self) -> Option<Role> {
        let mut parked = self.parked();
        parked.count += 1;
        let waits = |parked: &mut Parked| !parked.is_appointed;
        let waited = self.unpark.wait_timeout_while(parked, IDLE, waits);
        let (mut parked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        parked.count -= 1;
        std::mem::take(&mut parked.is_appointed).then_some(Role::Reserve)
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
