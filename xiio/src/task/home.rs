//! The thread that a task lives on, as other threads see it.

use std::alloc::Layout;
use std::cell::Cell;
use std::mem;
use std::num::NonZeroU32;
use std::ops::DerefMut;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU32};
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::pool::Pool;
use super::refs::TaskRef;
use crate::report::{drop_safely, waking};
use crate::slab::Slab;
use crate::sync::{AtomicBool, AtomicU8, Mutex, MutexGuard, Ordering, StaticMutex, lock, lock_static, thread_local};
use crate::sys::fork;

/// One for each thread that runs tasks. Never freed, so that every header may point to it without counting; a thread
/// that ends leaves its home to the next one.
///
/// Tasks may be left of the one before: leaked, or kept in a thread-local that is destroyed later than its tenancy. The
/// next tenant must not touch them. So a task belongs to a [`Tenant`], not to the home, and the inbox takes no task of
/// another tenant.
pub(crate) struct Home {
    /// The root is to be polled, says its own thread. No other one writes it.
    is_root_marked: AtomicBool,
    /// What other threads have for this one, and whether it sleeps: `ASLEEP`, `MAIL`, `FREED`, `ROOT_WOKEN`, `NUDGED`.
    ///
    /// One word for all, so that of a sleeper and a poster one always sees the other. It is only ever changed by
    /// read-modify-write operations: who takes a bit back then sees whatever came before any of those who set it.
    signals: AtomicU8,
    /// Another thread has woken a task or the root since the last question. Touched by the home's thread only.
    is_news: atomic::AtomicBool,
    inbox: Mutex<Inbox>,
    /// Memory for blocks. Touched by the home's thread only.
    pool: Pool,
}

/// The thread waits, or is about to wait, in the kernel: whoever sets `MAIL`, `ROOT_WOKEN` or `NUDGED` must notify it.
const ASLEEP: u8 = 1;
/// The inbox has a task. Changed under its lock.
const MAIL: u8 = 2;
/// The inbox has freed memory, for which nobody has to wake up. Changed under its lock.
const FREED: u8 = 4;
/// The root is to be polled.
const ROOT_WOKEN: u8 = 8;
/// The loop is to look around before it sleeps: something has changed that is no wake of a task.
const NUDGED: u8 = 16;

/// A place of a pool that nobody uses any more.
struct Place(NonNull<u8>);

// SAFETY: it is memory without content; only its pool's thread does anything with it.
unsafe impl Send for Place {}

// SAFETY: all but `pool` is `Sync` by itself. `pool` is touched by the home's thread only, of which there is one at a time: a
// new task takes a place of the home of its own thread, `free_place` looks where it is, and what the inbox has is collected
// by whoever takes the inbox.
unsafe impl Sync for Home {}

#[derive(Default)]
struct Inbox {
    /// Tasks woken from other threads; each counts its block.
    woken: Vec<TaskRef>,
    /// Places of the pool that were freed on other threads.
    freed: Vec<Place>,
    /// Whose tasks are taken; nobody's while the home is vacant.
    tenant: Option<Tenant>,
    /// What wakes the thread from its wait, one for each runtime that lives there: several may be embedded in one loop.
    notifiers: Slab<Waker>,
    /// Of the user, see [`Listener`]. Shared, since neither their clone nor their drop may run under the lock.
    listeners: Slab<Arc<Waker>>,
}

// SAFETY: a `TaskRef` in the inbox counts its block, and other threads do nothing with it but post it here.
unsafe impl Send for Inbox {}

/// A thread that has or had a home. No other thread ever gets the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenant(NonZeroU32);

thread_local! {
    static HOME: Cell<Option<(&'static Home, Tenant)>> = const { Cell::new(None) };
    /// Stays when the home is given back.
    static TENANT: Cell<Option<Tenant>> = const { Cell::new(None) };
    /// How often this thread has moved in.
    static LEASE: Cell<u32> = const { Cell::new(0) };
    /// The home whose listeners this thread wakes right now.
    static TOLD: Cell<Option<&'static Home>> = const { Cell::new(None) };
    /// One of those that were woken has posted something new.
    static HAS_POSTED: Cell<bool> = const { Cell::new(false) };
    /// Gives the home back when the thread ends.
    static TENANCY: Tenancy = const { Tenancy };
}

static VACANT: StaticMutex<Vec<&'static Home>> = StaticMutex::new(Vec::new());
static N_TENANTS: AtomicU32 = AtomicU32::new(0);

struct Tenancy;

impl Drop for Tenancy {
    fn drop(&mut self) {
        Home::move_out();
    }
}

impl Tenant {
    /// This thread, if it has ever had a home.
    #[inline]
    pub(super) fn here() -> Option<Self> {
        TENANT.get()
    }

    #[cold]
    fn next() -> Self {
        let before = N_TENANTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n_tenants| n_tenants.checked_add(1));
        let number = before.unwrap_or_else(|_| panic!("more than 2^32 threads have run tasks in this process"));
        Self(NonZeroU32::MIN.saturating_add(number))
    }
}

fn vacant() -> impl DerefMut<Target = Vec<&'static Home>> {
    lock_static(&VACANT)
}

impl Home {
    /// The home of this thread.
    #[inline]
    pub(crate) fn current() -> &'static Self {
        Self::and_tenant().0
    }

    /// The home of this thread, and who it is.
    #[inline]
    pub(super) fn and_tenant() -> (&'static Self, Tenant) {
        HOME.get().unwrap_or_else(Self::move_in)
    }

    #[cold]
    fn move_in() -> (&'static Self, Tenant) {
        static IS_HELD: [atomic::AtomicBool; 2] = [const { atomic::AtomicBool::new(false) }; 2];
        fork::hold(&IS_HELD[0], || Box::new(vacant()));
        fork::hold(&IS_HELD[1], || Box::new(HOME.get().map(|(home, _)| lock(&home.inbox))));
        // Registers the destructor that gives the home back. A thread that is past it moves out at the end of its run, see `close`.
        let _ = TENANCY.try_with(|_| ());
        LEASE.set(LEASE.get() + 1);
        let vacant = vacant().pop();
        let home = vacant.unwrap_or_else(|| {
            Box::leak(Box::new(Self {
                is_root_marked: AtomicBool::new(false),
                signals: AtomicU8::new(0),
                is_news: atomic::AtomicBool::new(false),
                inbox: Mutex::default(),
                pool: Pool::new(),
            }))
        });
        let tenant = TENANT.get().unwrap_or_else(Tenant::next);
        TENANT.set(Some(tenant));
        lock(&home.inbox).tenant = Some(tenant);
        HOME.set(Some((home, tenant)));
        (home, tenant)
    }

    /// Gives the home of this thread to the next one that needs it.
    #[cold]
    fn move_out() {
        let Some((home, _)) = HOME.get() else { return };
        let inbox = mem::take(&mut *lock(&home.inbox));
        inbox.woken.into_iter().for_each(TaskRef::drop_ref);
        home.collect(inbox.freed);
        HOME.set(None);
        vacant().push(home);
        let left: Vec<_> = inbox.listeners.iter().map(|(_, waker)| Arc::clone(waker)).collect();
        drop(inbox.listeners);
        left.into_iter().for_each(drop_safely);
    }

    /// Whether the destructor has run that gives the home back. If not it will.
    fn is_tenancy_over() -> bool {
        TENANCY.try_with(|_| ()).is_err()
    }

    /// Tells the present stay of this thread in its home from others, in the same home or another one: what was opened then is
    /// closed.
    pub(crate) fn lease() -> u32 {
        LEASE.get()
    }

    /// Whether this is the home of the current thread. Destructors of thread-locals may come after it was given back.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        HOME.with(|slot| slot.get().is_some_and(|(home, _)| ptr::eq(home, self)))
    }

    /// Memory for a block, on the home's thread.
    #[inline]
    pub(super) fn take_place(&self, layout: Layout) -> NonNull<u8> {
        debug_assert!(self.is_current());
        self.pool.take(layout)
    }

    /// Takes a place back, from whichever thread.
    ///
    /// # Safety
    /// - `place` came from `take_place` of this home and was not given back since.
    /// - Nobody uses it any more.
    #[inline]
    pub(super) unsafe fn free_place(&self, place: NonNull<u8>) {
        if self.is_current() {
            // SAFETY: the caller's contract is this one's.
            unsafe { self.pool.put_back(place) };
        } else {
            self.post_place(Place(place));
        }
    }

    #[cold]
    fn post_place(&self, place: Place) {
        let mut inbox = lock(&self.inbox);
        inbox.freed.push(place);
        self.signals.fetch_or(FREED, Ordering::Relaxed);
    }

    /// Takes back places that were freed on other threads.
    fn collect(&self, freed: Vec<Place>) {
        for Place(place) in freed {
            // SAFETY: `free_place` was given it under the same contract, and this is the home's thread.
            unsafe { self.pool.put_back(place) };
        }
    }

    /// Opens the inbox; `notifier`, which must not be code of the user, wakes this thread from its wait. To be closed
    /// with the result.
    pub(crate) fn open(&self, notifier: Waker) -> usize {
        lock(&self.inbox).notifiers.insert(notifier)
    }

    /// Takes a notifier back. What is posted after the last one has gone waits for the next run of this thread: a future
    /// that was polled in this one may go on there.
    pub(crate) fn close(&self, key: usize) {
        let mut inbox = lock(&self.inbox);
        inbox.notifiers.remove(key);
        // The others rest in a foreign loop: what is posted from now on is for them to hear of.
        let are_others_asleep = !inbox.notifiers.is_empty();
        drop(inbox);
        if are_others_asleep {
            self.rest();
        } else {
            self.wake_up();
        }
        self.take_inbox();
        if !are_others_asleep && Self::is_tenancy_over() {
            Self::move_out();
        }
    }

    /// Wakes the tasks that other threads have posted, and takes back the memory that they have freed.
    #[inline]
    pub(crate) fn take_inbox(&self) {
        if self.signals.load(Ordering::Relaxed) & (MAIL | FREED) != 0 {
            self.empty_inbox();
        }
    }

    #[cold]
    fn empty_inbox(&self) {
        let mut inbox = lock(&self.inbox);
        let (woken, freed) = (mem::take(&mut inbox.woken), mem::take(&mut inbox.freed));
        self.signals.fetch_and(!(MAIL | FREED), Ordering::Relaxed);
        drop(inbox);
        if !woken.is_empty() {
            self.is_news.store(true, Ordering::Relaxed);
        }
        self.collect(freed);
        for task in woken {
            // Ordering: a swap, so that it reads the last of those that found the flag set and did not post. The poll then
            // sees what came before their wakes.
            task.header().is_posted.swap(false, Ordering::AcqRel);
            waking(|| super::waker::wake_at_home(task));
            task.drop_ref();
        }
    }

    /// Posts a task that has been woken on another thread. The task is counted for the inbox, or not taken.
    pub(super) fn post(&'static self, task: TaskRef) {
        let mut inbox = lock(&self.inbox);
        if inbox.tenant != Some(task.header().tenant) {
            // Its thread has ended, so nobody polls it any more.
            return;
        }
        task.clone_ref();
        inbox.woken.push(task);
        match self.signal(MAIL) {
            ASLEEP => Self::notify(inbox),
            0 => self.tell(inbox),
            _ => {}
        }
    }

    /// Sets a signal. Gives `ASLEEP` if the thread has to be notified of it, zero if it is awake, and more if somebody has set
    /// the same before.
    fn signal(&self, signal: u8) -> u8 {
        // Ordering: `Release` for whoever takes the signal back, see `take_root_woken`.
        self.signals.fetch_or(signal, Ordering::AcqRel) & (ASLEEP | signal)
    }

    fn notify(inbox: MutexGuard<'_, Inbox>) {
        let notifiers: Vec<Waker> = inbox.notifiers.iter().map(|(_, notifier)| notifier.clone()).collect();
        drop(inbox);
        notifiers.into_iter().for_each(Waker::wake);
    }

    /// Wakes the listeners: the thread is awake, and may be in a foreign executor which waits.
    fn tell(&'static self, inbox: MutexGuard<'_, Inbox>) {
        if inbox.listeners.is_empty() {
            return;
        }
        if TOLD.get().is_some_and(|home| ptr::eq(home, self)) {
            return HAS_POSTED.set(true);
        }
        let listeners = inbox.listeners.iter().map(|(_, waker)| Arc::clone(waker)).collect();
        drop(inbox);
        let (home, has_posted) = (TOLD.replace(Some(self)), HAS_POSTED.get());
        Self::tell_all(listeners);
        TOLD.set(home);
        HAS_POSTED.set(has_posted);
    }

    /// A listener inside of a foreign combinator passes the wake on to a task of this home. That task is posted in turn, and the
    /// listeners that were woken before have to hear of it. The one that posted is not woken again for it: otherwise this could go
    /// on for ever.
    fn tell_all(mut listeners: Vec<Arc<Waker>>) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for waker in mem::take(&mut listeners) {
                HAS_POSTED.set(false);
                waking(|| waker.wake_by_ref());
                if HAS_POSTED.get() {
                    goes_on = true;
                    drop_safely(waker);
                } else {
                    listeners.push(waker);
                }
            }
        }
        listeners.into_iter().for_each(drop_safely);
    }

    /// Has `waker`, which is the user's, hear of what is posted while this thread is awake.
    pub(super) fn listen(&'static self, waker: Waker) -> Listener {
        let waker = Arc::new(waker);
        Listener { home: self, lease: Self::lease(), key: lock(&self.inbox).listeners.insert(waker) }
    }

    /// Whether there is something that would not let this thread sleep.
    pub(crate) fn is_called(&self) -> bool {
        self.is_root_marked.load(Ordering::Relaxed) || self.is_signalled()
    }

    /// Whether another thread has something for this one.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signals.load(Ordering::Relaxed) & (MAIL | ROOT_WOKEN | NUDGED) != 0
    }

    /// Announces that this thread is about to wait; `false` when there is something to do instead.
    pub(crate) fn fall_asleep(&self) -> bool {
        if self.is_root_woken() {
            return false;
        }
        // Ordering: none is needed. Either this operation on the word comes after that of a poster and sees its signal, or
        // before it, and then the poster sees that the thread sleeps.
        let before = self.signals.fetch_or(ASLEEP, Ordering::Relaxed);
        let is_quiet = before & (MAIL | ROOT_WOKEN | NUDGED) == 0;
        if !is_quiet {
            self.wake_up();
        }
        is_quiet
    }

    /// Announces that a foreign loop goes on on this thread; `false` when there is something in the inbox.
    pub(crate) fn rest(&self) -> bool {
        self.signals.fetch_or(ASLEEP, Ordering::Relaxed) & MAIL == 0
    }

    /// The thread does not wait any more, and looks around: it has been nudged enough.
    pub(crate) fn wake_up(&self) {
        // Ordering: `Acquire`, from all who have nudged it.
        self.signals.fetch_and(!(ASLEEP | NUDGED), Ordering::AcqRel);
    }

    /// After all the thread does not rest: a turn goes on, which looks around itself.
    pub(crate) fn stay_awake(&self) {
        self.signals.fetch_and(!ASLEEP, Ordering::Relaxed);
    }

    /// Has the loop of this thread look around before it sleeps, or sleeps on.
    pub(crate) fn nudge(&self) {
        if self.signal(NUDGED) == ASLEEP {
            Self::notify(lock(&self.inbox));
        }
    }

    /// Whether the root was woken since the last call.
    pub(crate) fn take_root_woken(&self) -> bool {
        let is_marked = self.is_root_marked.load(Ordering::Relaxed);
        self.is_root_marked.store(false, Ordering::Relaxed);
        // A plain load first: the other is an atomic instruction.
        // Ordering: `Acquire`, from all who have set it: the poll sees whatever came before their wakes.
        let is_woken =
            self.is_root_signalled() && self.signals.fetch_and(!ROOT_WOKEN, Ordering::AcqRel) & ROOT_WOKEN != 0;
        if is_woken {
            self.is_news.store(true, Ordering::Relaxed);
        }
        is_marked || is_woken
    }

    /// Whether another thread has woken a task or the root since the last call, or has now something for this one.
    pub(crate) fn has_heard(&self) -> bool {
        self.is_news.swap(false, Ordering::Relaxed) || self.is_signalled()
    }

    pub(crate) fn is_root_woken(&self) -> bool {
        self.is_root_marked.load(Ordering::Relaxed) || self.is_root_signalled()
    }

    fn is_root_signalled(&self) -> bool {
        self.signals.load(Ordering::Relaxed) & ROOT_WOKEN != 0
    }

    /// Marks the root as to be polled; the home thread does it without an atomic instruction.
    #[inline]
    pub(crate) fn wake_root(&self) {
        if self.is_current() {
            self.is_root_marked.store(true, Ordering::Relaxed);
        } else if self.signal(ROOT_WOKEN) == ASLEEP {
            Self::notify(lock(&self.inbox));
        }
    }

    /// The waker of the root. It counts nothing, a home is for ever.
    pub(crate) fn waker(&'static self) -> Waker {
        // SAFETY: the functions of `ROOT` take a `&'static Home`, which is what the data is; they may be called on any
        // thread, and neither cloning nor dropping has anything to do.
        unsafe { Waker::new(ptr::from_ref(self).cast(), &ROOT) }
    }

    /// The home that `waker` is the root's of.
    #[inline]
    pub(super) fn of_root_waker(waker: &Waker) -> Option<&'static Self> {
        Self::is_root_waker(waker).then(|| home_of(waker.data()))
    }

    #[inline]
    pub(super) fn is_root_waker(waker: &Waker) -> bool {
        ptr::eq(waker.vtable(), &raw const ROOT)
    }
}

/// The waker of a foreign executor or combinator that polls a set, among those who hear of the inbox.
///
/// Such an executor may stand inside of a task and wait on this very thread: a `block_on`. Then the loop takes no inbox until
/// it has its value. So who posts wakes it, and the set takes the inbox when it is polled. In the kernel nobody waits but
/// the loop, which is why a sleeping thread is only notified.
///
/// One that is leaked stays until its thread gives the home back: a waker that is woken for nothing.
pub(super) struct Listener {
    home: &'static Home,
    lease: u32,
    key: usize,
}

impl Listener {
    fn is_registered(&self) -> bool {
        self.home.is_current() && Home::lease() == self.lease
    }

    /// Whether it wakes what `waker` does.
    pub(super) fn will_wake(&self, waker: &Waker) -> bool {
        self.is_registered()
            && lock(&self.home.inbox).listeners.get(self.key).is_some_and(|before| before.will_wake(waker))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_registered() {
            let waker = lock(&self.home.inbox).listeners.remove(self.key);
            drop_safely(waker);
        }
    }
}

static ROOT: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &ROOT),
    |data| home_of(data).wake_root(),
    |data| home_of(data).wake_root(),
    |_| (),
);

fn home_of(data: *const ()) -> &'static Home {
    // SAFETY: only called with the data of a waker whose vtable is `ROOT`, which `Home::waker` made from a `&'static`.
    unsafe { &*data.cast::<Home>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_freed_elsewhere_comes_back_while_the_thread_runs() {
        let layout = Layout::from_size_align(64, 8).expect("a valid layout");
        let home = Home::current();
        let place = Place(home.take_place(layout));
        let freed = std::thread::spawn(move || {
            let Place(place) = { place };
            // SAFETY: taken above, and given back once.
            unsafe { home.free_place(place) };
            place.addr()
        });
        let freed = freed.join().expect("giving memory back does not panic");
        home.take_inbox();
        let again = home.take_place(layout);
        assert_eq!(again.addr(), freed);
        // SAFETY: taken above, and given back once.
        unsafe { home.free_place(again) };
    }

    /// Runs in a destructor that comes after the one which gives the home back.
    struct RunsLate(Cell<Option<std::sync::mpsc::Sender<usize>>>);

    impl Drop for RunsLate {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                let home = Home::current();
                let key = home.open(Waker::noop().clone());
                home.close(key);
                assert!(!home.is_current());
                sender.send(ptr::from_ref(home).addr()).expect("the test waits");
            }
        }
    }

    #[test]
    fn a_thread_that_runs_in_its_last_destructors_gives_the_home_back() {
        std::thread_local! {
            static RUNS_LATE: RunsLate = const { RunsLate(Cell::new(None)) };
        }
        let (sender, homes) = std::sync::mpsc::channel();
        for _ in 0..50 {
            let sender = sender.clone();
            let thread = std::thread::spawn(move || {
                RUNS_LATE.with(|late| late.0.set(Some(sender)));
                Home::current();
            });
            thread.join().expect("the thread does not panic");
        }
        drop(sender);
        let homes: std::collections::HashSet<usize> = homes.into_iter().collect();
        // Other tests take and give homes meanwhile.
        assert!(homes.len() < 25, "{} threads have homes of their own", homes.len());
    }
}
