//! What a combinator adds to the size of the future in it, and to the memory of a task that waits.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::hint::black_box;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use xiio::{
    Outputs, as_completed, bracket, branch, catch_panic, cooperative, gather, join, race, race_ok, shield, task_group,
    timeout, try_gather, try_join, try_task_group,
};
use xiio_tests::allocated::{Counting, n_bytes};

/// So many bytes a level may add: its own state, which is a group in most, and no future a second time. Less than the leaf.
const LEVEL: usize = 800;

async fn leaf() {
    let bytes = [0_u8; 1024];
    pending::<()>().await;
    black_box(&bytes);
}

/// The sizes of futures that are nested up to four levels deep, the leaf first. Each level makes the one below in place.
macro_rules! sizes {
    (|$inner:ident| $level:expr) => {{
        fn one() -> impl Future<Output = ()> {
            let $inner = leaf;
            async move { _ = $level }
        }
        fn two() -> impl Future<Output = ()> {
            let $inner = one;
            async move { _ = $level }
        }
        fn three() -> impl Future<Output = ()> {
            let $inner = two;
            async move { _ = $level }
        }
        fn four() -> impl Future<Output = ()> {
            let $inner = three;
            async move { _ = $level }
        }
        [
            mem::size_of_val(&leaf()),
            mem::size_of_val(&one()),
            mem::size_of_val(&two()),
            mem::size_of_val(&three()),
            mem::size_of_val(&four()),
        ]
    }};
}

#[track_caller]
fn assert_flat(what: &str, sizes: [usize; 5]) {
    println!("{what}: {sizes:?}");
    let is_flat = sizes.windows(2).all(|pair| pair[1] <= pair[0] + LEVEL);
    assert!(is_flat, "`{what}` adds more than {LEVEL} bytes a level: {sizes:?}");
}

#[test]
fn bracket_holds_its_usage_once() {
    assert_flat("bracket", sizes!(|inner| bracket((), async |()| inner().await, async |()| ()).await));
}

#[test]
fn bracket_holds_its_release_once() {
    assert_flat("release", sizes!(|inner| bracket((), async |()| (), async |()| inner().await).await));
}

#[test]
fn bracket_holds_usage_and_release_in_one_place() {
    // The release begins when the usage is gone.
    let both = bracket((), async |()| leaf().await, async |()| leaf().await);
    let one = bracket((), async |()| leaf().await, async |()| ());
    assert!(
        mem::size_of_val(&both) <= mem::size_of_val(&one) + 64,
        "{} and {}",
        mem::size_of_val(&both),
        mem::size_of_val(&one)
    );
}

/// As many brackets as there are marks, one in the other.
macro_rules! brackets {
    () => { leaf().await };
    ($mark:tt $($rest:tt)*) => { bracket((), async |()| brackets!($($rest)*), async |()| ()).await };
}

#[test]
fn eight_brackets_need_a_small_stack() {
    let nested = || xiio::run(timeout(Duration::ZERO, async { brackets!(+ + + + + + + +) }));
    let thread = thread::Builder::new().stack_size(1 << 19).spawn(nested).unwrap();
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn join_holds_its_futures_once() {
    assert_flat("join!", sizes!(|inner| join!(inner(), async {})));
    assert_flat(
        "try_join!",
        sizes!(|inner| try_join!(
            async {
                inner().await;
                Ok::<(), ()>(())
            },
            async { Ok(()) }
        )),
    );
}

#[test]
fn gather_holds_its_futures_once() {
    assert_flat("gather", sizes!(|inner| gather([inner()]).await));
    let fallible = sizes!(|inner| try_gather([async {
        inner().await;
        Ok::<(), ()>(())
    }])
    .await);
    assert_flat("try_gather", fallible);
}

#[test]
fn race_holds_its_futures_once() {
    assert_flat("race!", sizes!(|inner| race!(inner(), async {})));
    assert_flat("race! with arms", sizes!(|inner| race!(() = inner() => {}, () = async {} => {})));
    assert_flat("race", sizes!(|inner| race([inner()]).await));
    assert_flat(
        "race_ok",
        sizes!(|inner| race_ok([async {
            inner().await;
            Ok::<(), ()>(())
        }])
        .await),
    );
}

#[test]
fn as_completed_holds_its_futures_once() {
    let sizes =
        sizes!(|inner| as_completed([inner()]).consume(async |outputs| while outputs.next().await.is_some() {}).await);
    assert_flat("as_completed", sizes);
    let consumed = sizes!(|inner| as_completed([pending::<()>()]).consume(async |_| inner().await).await);
    assert_flat("the consumer of as_completed", consumed);
    let given = sizes!(|inner| {
        let outputs = Outputs::new();
        outputs.give(inner()).await;
    });
    assert_flat("Outputs::give", given);
}

#[test]
fn what_runs_one_future_holds_it_once() {
    assert_flat("shield", sizes!(|inner| shield(inner()).await));
    assert_flat("timeout", sizes!(|inner| timeout(Duration::from_secs(1), inner()).await));
    assert_flat("branch", sizes!(|inner| branch(inner()).await));
    assert_flat("cooperative", sizes!(|inner| cooperative(inner()).await));
    assert_flat("catch_panic", sizes!(|inner| catch_panic(inner()).await));
}

#[test]
fn a_group_holds_its_body_once() {
    assert_flat("task_group!", sizes!(|inner| task_group!(|_| inner().await)));
    assert_flat(
        "with a limit of time",
        sizes!(|inner| task_group!(timeout = Duration::from_secs(1), |_| inner().await)),
    );
    assert_flat("with workers", sizes!(|inner| task_group!(workers = 1, |_| inner().await)));
    assert_flat("try_task_group!", sizes!(|inner| try_task_group!(error = (), |_| inner().await)));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many bytes are many beside all else that is allocated, a chunk of the pool of tasks included.
const LARGE: isize = 1 << 15;

/// Asserts that the task of a combinator with one large future holds that once.
fn assert_held_once<T>(what: &str, combine: impl AsyncFnOnce(Large) -> T) {
    xiio::run(async {
        let (before, meanwhile) = (n_bytes(), Rc::new(Cell::new(0)));
        combine(Large { bytes: [0; LARGE.cast_unsigned()], has_begun: false, meanwhile: Rc::clone(&meanwhile) }).await;
        let n_held = meanwhile.get() - before;
        println!("{what}: {n_held}");
        assert!(n_held < 2 * LARGE, "a task of `{what}` holds {n_held} bytes for a future of {LARGE}");
    });
}

/// A future that notes how much memory its thread holds while it waits.
struct Large {
    bytes: [u8; LARGE.cast_unsigned()],
    has_begun: bool,
    meanwhile: Rc<Cell<isize>>,
}

impl Future for Large {
    type Output = Result<(), ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        black_box(&self.bytes);
        if mem::replace(&mut self.has_begun, true) {
            return Poll::Ready(Ok(()));
        }
        self.meanwhile.set(n_bytes());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The future without its output. No `async` block, which would hold it twice.
fn then_nothing(mut large: Large) -> impl Future<Output = ()> {
    poll_fn(move |cx| Pin::new(&mut large).poll(cx).map(drop))
}

#[test]
fn a_task_holds_its_future_once() {
    assert_held_once("spawn", async |large| task_group!(|tg| drop(tg.spawn(large))));
    assert_held_once("defer", async |large| task_group!(|tg| tg.defer(then_nothing(large))));
    assert_held_once("join!", async |large| join!(large));
    assert_held_once("gather", async |large| gather([large]).await);
    assert_held_once("race!", async |large| race!(large));
    assert_held_once("race! with arms", async |large| race!(Ok(()) = large => {}));
    assert_held_once("race", async |large| race([large]).await);
    assert_held_once("race_ok", async |large| race_ok([large]).await);
    let first = async |large| as_completed([large]).consume(async |outputs| outputs.next().await).await;
    assert_held_once("as_completed", first);
}
