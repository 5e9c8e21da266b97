//! Programs that must not compile, with the words they are refused with, and their neighbours that must. The words of
//! the compiler are pinned, too: they move with the toolchain (`TRYBUILD=overwrite`).

use std::rc::Rc;

use xiio::{Task, TaskGroup, TryTaskGroup, TryWorkers, WorkerTask, Workers};

#[test]
fn mistakes_are_explained_and_neighbours_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}

/// Does not compile if the type has the trait: two implementations would answer then. A program that must not compile
/// would pin the name of every private field instead.
macro_rules! assert_not_impl {
    ($type:ty: $trait:path) => {
        const _: fn() = || {
            trait Answer<Which> {
                fn answer() {}
            }
            struct HasTrait;
            impl<T: ?Sized> Answer<()> for T {}
            impl<T: ?Sized + $trait> Answer<HasTrait> for T {}
            let _ = <$type as Answer<_>>::answer;
        };
    };
}

assert_not_impl!(TaskGroup<'static>: Send);
assert_not_impl!(TaskGroup<'static>: Sync);
assert_not_impl!(TryTaskGroup<'static, ()>: Send);
assert_not_impl!(TryTaskGroup<'static, ()>: Sync);
assert_not_impl!(Task<()>: Send);
assert_not_impl!(Task<()>: Sync);
assert_not_impl!(WorkerTask<Rc<()>>: Send);

// With and without the feature `futures-core`, which must not take anything away.
assert_not_impl!(xiio::io::Lines<&'static [u8]>: Send);
assert_not_impl!(xiio::io::Split<&'static [u8]>: Send);

/// As `docs/send.md` says.
const _: fn() = || {
    fn assert_send<T: Send>(_: T) {}
    assert_send(xiio::sleep(std::time::Duration::ZERO));
    assert_send(xiio::interval(std::time::Duration::ZERO));
    assert_send(xiio::yield_now());
    assert_send(xiio::Promise::<u8>::new().wait());
};

/// Does not compile if a type has not the traits.
fn assert_send_sync_copy<T: Send + Sync + Copy>() {}

const _: fn() = assert_send_sync_copy::<Workers<'static>>;
const _: fn() = assert_send_sync_copy::<TryWorkers<'static, ()>>;
