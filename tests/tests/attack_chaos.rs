//! Random programs that do everything at the worst moment: members that spawn, defer, cancel anybody, wake anybody and
//! panic, in their polls, in their destructors and in wakers. All end, nothing is lost, nothing is dropped twice.
//!
//! The programs are drawn from a seed, which is in the message of a failure.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use xiio::inspect::ReportKind;
use xiio::{Task, TaskGroup, TryTaskGroup, bracket, task_group, try_task_group, yield_now};
use xiio_tests::poll::OnWake;
use xiio_tests::{DropCount, DropFlag, Reports, run};

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Members of one program.
const N_MOST: u32 = 300;
const N_PROGRAMS: u64 = 1500;

thread_local! {
    /// Those whose handles are kept, for wakers too, which know nothing else.
    static HANDLES: RefCell<Vec<Task<()>>> = const { RefCell::new(Vec::new()) };
}

/// What the members of one program share.
struct World {
    state: Cell<u64>,
    n_spawned: Cell<u32>,
    drops: DropCount,
    wakers: RefCell<Vec<Waker>>,
    /// Brackets that hold something.
    n_held: Cell<u32>,
    /// Deferred cleanups that were dropped before they had run.
    n_not_run: Cell<usize>,
}

impl World {
    fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            n_spawned: Cell::new(0),
            drops: DropCount::new(),
            wakers: RefCell::default(),
            n_held: Cell::new(0),
            n_not_run: Cell::new(0),
        })
    }

    fn draw(&self, n: u64) -> u64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        (x >> 33) % n
    }

    fn has_room(&self) -> bool {
        self.n_spawned.get() < N_MOST
    }

    fn cancel_one(&self) {
        let index = self.draw(8);
        cancel_handle(usize::try_from(index).unwrap());
    }

    fn wake_some(&self) {
        let wakers = self.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn cancel_handle(index: usize) {
    let handle = HANDLES.with_borrow_mut(|handles| (index < handles.len()).then(|| handles.swap_remove(index)));
    drop(handle.map(Task::cancel));
}

/// Both kinds of groups.
trait Group<'a> {
    fn spawn_member(&self, member: Member<'a>) -> Task<()>;
    fn spawn_bracket(&self, held: Boxed<'a>) -> Task<()>;
    fn cancel_all(&self);
    fn defer_cleanup(&self, cleanup: Boxed<'a>);
}

impl<'a> Group<'a> for TaskGroup<'a> {
    fn spawn_member(&self, member: Member<'a>) -> Task<()> {
        self.spawn(member.map(drop))
    }

    fn spawn_bracket(&self, held: Boxed<'a>) -> Task<()> {
        self.spawn(held)
    }

    fn cancel_all(&self) {
        self.cancel();
    }

    fn defer_cleanup(&self, cleanup: Boxed<'a>) {
        self.defer(cleanup);
    }
}

impl<'a> Group<'a> for TryTaskGroup<'a, DropFlag> {
    fn spawn_member(&self, member: Member<'a>) -> Task<()> {
        self.spawn(member)
    }

    fn spawn_bracket(&self, held: Boxed<'a>) -> Task<()> {
        self.spawn(async {
            held.await;
            Ok(())
        })
    }

    fn cancel_all(&self) {
        self.cancel();
    }

    fn defer_cleanup(&self, cleanup: Boxed<'a>) {
        self.defer(cleanup);
    }
}

/// Notes a cleanup that is dropped before it has run.
struct ToRun(Rc<World>, bool);

impl ToRun {
    fn ran(mut self) {
        self.1 = true;
    }
}

impl Drop for ToRun {
    fn drop(&mut self) {
        self.0.n_not_run.set(self.0.n_not_run.get() + usize::from(!self.1));
    }
}

/// A task that does something in each poll, and in its destructor.
struct Member<'a> {
    world: Rc<World>,
    group: &'a dyn Group<'a>,
    n_left: u64,
    depth: u32,
    /// Runs to its end, whatever else happens.
    inner: Option<Boxed<'a>>,
    _flag: DropFlag,
}

impl<'a> Member<'a> {
    fn new(world: &Rc<World>, group: &'a dyn Group<'a>, depth: u32) -> Self {
        world.n_spawned.set(world.n_spawned.get() + 1);
        let inner = (depth < 3 && world.draw(4) == 0).then(|| random_group(Rc::clone(world), depth + 1));
        let n_left = world.draw(6);
        Self { world: Rc::clone(world), group, n_left, depth, inner, _flag: world.drops.flag() }
    }

    fn act(&self) {
        let world = &self.world;
        match world.draw(10) {
            0 | 1 if world.has_room() => act_spawn(world, self.group, self.depth),
            2 => self.group.cancel_all(),
            3 | 4 => world.cancel_one(),
            5 => world.wake_some(),
            6 => act_defer(world, self.group),
            _ => {}
        }
    }
}

fn act_spawn<'a>(world: &Rc<World>, group: &'a dyn Group<'a>, depth: u32) {
    let task = if world.draw(3) == 0 {
        world.n_spawned.set(world.n_spawned.get() + 1);
        group.spawn_bracket(Box::pin(hold(Rc::clone(world))))
    } else {
        group.spawn_member(Member::new(world, group, depth))
    };
    if world.draw(2) == 0 {
        HANDLES.with_borrow_mut(|handles| handles.push(task));
    }
}

fn act_defer<'a>(world: &Rc<World>, group: &'a dyn Group<'a>) {
    let to_run = ToRun(Rc::clone(world), false);
    group.defer_cleanup(Box::pin(async move {
        yield_now().await;
        to_run.ran();
    }));
}

async fn hold(world: Rc<World>) {
    let n_held = &world.n_held;
    n_held.set(n_held.get() + 1);
    bracket(
        (),
        async |()| {
            for _ in 0..world.draw(6) {
                yield_now().await;
            }
        },
        async |()| {
            yield_now().await;
            n_held.set(n_held.get() - 1);
        },
    )
    .await;
}

impl Future for Member<'_> {
    type Output = Result<(), DropFlag>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.act();
        let waker = match this.world.draw(4) {
            0 => {
                let (waker, index) = (cx.waker().clone(), this.world.draw(8));
                Waker::from(Arc::new(OnWake(move || {
                    cancel_handle(usize::try_from(index).unwrap());
                    waker.wake_by_ref();
                })))
            }
            _ => cx.waker().clone(),
        };
        if let Some(inner) = &mut this.inner {
            if inner.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                return Poll::Pending;
            }
            this.inner = None;
        }
        let Some(n_left) = this.n_left.checked_sub(1) else {
            return match this.world.draw(12) {
                0 => resume_unwind(Box::new("in a poll")),
                1 => Poll::Ready(Err(this.world.drops.flag())),
                _ => Poll::Ready(Ok(())),
            };
        };
        this.n_left = n_left;
        if this.world.draw(2) == 0 {
            waker.wake();
        } else {
            this.world.wakers.borrow_mut().push(waker);
        }
        Poll::Pending
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if self.world.draw(2) == 0 {
            self.act();
        }
        if self.inner.is_none() && self.world.draw(20) == 0 && !std::thread::panicking() {
            resume_unwind(Box::new("in a destructor"));
        }
    }
}

/// What the body of a group does.
async fn random_body<'a>(world: &Rc<World>, group: &'a dyn Group<'a>, depth: u32) {
    // Now and then more than fit into a turn.
    let n_at_once = if world.draw(32) == 0 { 400 } else { 0 };
    for _ in 0..n_at_once {
        group.spawn_member(Member::new(world, group, depth + 2));
    }
    for _ in 0..world.draw(16) {
        match world.draw(8) {
            0..=3 if world.has_room() => act_spawn(world, group, depth),
            4 => group.cancel_all(),
            5 => act_defer(world, group),
            6 => world.cancel_one(),
            _ => yield_now().await,
        }
    }
    if world.draw(16) == 0 {
        resume_unwind(Box::new("in a body"));
    }
}

fn random_group<'a>(world: Rc<World>, depth: u32) -> Boxed<'a> {
    Box::pin(async move {
        let world = &world;
        let flag = || world.drops.flag();
        let fails = world.draw(16) == 0;
        let group: Boxed<'_> = match world.draw(4) {
            0 => Box::pin(async {
                task_group!(|tg| random_body(world, tg, depth).await);
            }),
            1 => Box::pin(async {
                task_group!(limit = 2, |tg| random_body(world, tg, depth).await);
            }),
            2 => Box::pin(async {
                let _: Result<(), DropFlag> = try_task_group!(error = DropFlag, |tg| {
                    random_body(world, tg, depth).await;
                    if fails {
                        Err(flag())?;
                    }
                });
            }),
            _ => Box::pin(async {
                let _: Result<(), xiio::GroupError<DropFlag>> = try_task_group!(all_errors, error = DropFlag, |tg| {
                    random_body(world, tg, depth).await;
                    if fails {
                        Err(flag())?;
                    }
                });
            }),
        };
        drop(AssertUnwindSafe(group).catch_unwind().await);
    })
}

fn play(seed: u64) {
    let world = World::new(seed);
    let reports = Reports::new();
    run(async {
        let is_over = Cell::new(false);
        let all = async {
            for _ in 0..3 {
                random_group(Rc::clone(&world), 0).await;
            }
            is_over.set(true);
        };
        let tick = async {
            while !is_over.get() {
                world.wake_some();
                yield_now().await;
            }
        };
        futures::join!(all, tick);
    });
    world.wake_some();
    drop(HANDLES.take());
    let n_refused = reports.kinds().iter().filter(|kind| **kind == ReportKind::Refused).count();
    let allowed = [ReportKind::Refused, ReportKind::LaterFailure];
    let others: Vec<_> = reports.kinds().into_iter().filter(|kind| !allowed.contains(kind)).collect();
    assert!(others.is_empty(), "seed {seed}: {:?}", reports.texts());
    assert_eq!(world.drops.n_alive(), 0, "seed {seed}: members or errors are left");
    assert_eq!(world.n_held.get(), 0, "seed {seed}: cleanups of brackets are lost");
    assert!(world.n_not_run.get() <= n_refused, "seed {seed}: deferred cleanups are lost");
}

#[test]
fn random_chaos_ends_and_loses_nothing() {
    for seed in 0..N_PROGRAMS {
        play(seed);
    }
}
