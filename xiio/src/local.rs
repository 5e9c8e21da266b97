//! Values that go with a task and with what it spawns: the number of a request, its user.
//!
//! What is current on a thread is one counted list of values. A scope puts a longer list in its place for the time of each of its polls. A
//! task that was spawned inside of the scope has that list put in place for its own polls. So nothing points into a scope or a task: one
//! that is leaked leaks its list, and no more.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drawing::{Kind, Node};
use crate::report::{drop_safely, report_panic};
use crate::unwind;

/// Declares values that a task has for itself and for what it spawns.
///
/// Each is a `static` of the type [`LocalKey`]. It has a value inside of [`LocalKey::scope`] and in the tasks that are spawned
/// there, into whichever group, and in the tasks that these spawn. Words behind the type say more about a key:
///
/// | word | meaning |
/// |---|---|
/// | `shown` | the tree of [`inspect`](mod@crate::inspect) and reports show the value; its type is `Display` |
/// | `not_inherited` | tasks and jobs that are spawned do not have the value |
///
/// A job of [`in_thread`](crate::in_thread()) and a task on a worker have the values that are `Send` and `Sync`; the others stay on their
/// thread. A task that [`Remote`](crate::Remote) spawns has those of its group.
///
/// Where no key has a value, xiio does nothing for them: neither when a task is spawned nor when it is polled.
///
/// # Examples
/// ```
/// use xiio::{in_thread, task_group, yield_now};
///
/// xiio::local! {
///     /// The number of the request that is answered.
///     static REQUEST: u32, shown;
///     static DEPTH: u32, not_inherited;
/// }
///
/// async fn answer() {
///     task_group!(|tg| {
///         tg.spawn(async { assert_eq!((REQUEST.get(), DEPTH.try_get().is_err()), (7, true)) });
///     });
///     assert_eq!(in_thread(|| REQUEST.get()).await, 7);
///     assert_eq!(DEPTH.get(), 0);
/// }
///
/// xiio::run(REQUEST.scope(7, DEPTH.scope(0, answer())));
/// ```
///
/// # Source
/// `task_local!` of tokio, where what is spawned starts without values; `thread_local!` of `std`.
#[doc(alias("task_local", "LocalKey", "ContextVar"))]
#[macro_export]
macro_rules! local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty $(, $word:ident)*);* $(;)?) => {
        $(
            $(#[$attribute])*
            $visibility static $name: $crate::LocalKey<$type> = {
                #[allow(unused_imports)]
                use $crate::__private::PackAtHome as _;
                $crate::LocalKey::__new(
                    ::core::stringify!($name),
                    <$crate::__private::Packer<$type>>::PACK,
                )$(.$word())*
            };
        )*
    };
}

/// A value that a task has for itself and for what it spawns, of [`local!`](crate::local!).
///
/// # Examples
/// ```
/// xiio::local!(static USER: String);
///
/// let length = xiio::run(USER.scope("Ada".to_owned(), async {
///     xiio::yield_now().await;
///     USER.with(|user| user.len())
/// }));
/// assert_eq!(length, 3);
/// ```
pub struct LocalKey<T: 'static> {
    about: About,
    pack: fn(T) -> Value,
}

/// What there is to know of a key, whatever its type.
struct About {
    name: &'static str,
    is_inherited: bool,
    show: Option<fn(&dyn Any) -> String>,
}

/// A value in the list of a task. What may go to other threads says so by its type.
#[derive(Clone)]
pub enum Value {
    AtHome(Rc<dyn Any>),
    Anywhere(Arc<dyn Any + Send + Sync>),
}

impl Value {
    fn get(&self) -> &dyn Any {
        match self {
            Self::AtHome(value) => &**value,
            Self::Anywhere(value) => &**value,
        }
    }
}

/// Makes a `Value` of one of the type `T`: `PACK` where that is `Send` and `Sync`, else `PackAtHome::PACK`, which a path finds
/// only where there is no other.
pub struct Packer<T>(PhantomData<fn(T)>);

/// See [`Packer`].
pub trait PackAtHome<T> {
    /// See [`Packer`].
    const PACK: fn(T) -> Value;
}

impl<T: 'static> PackAtHome<T> for Packer<T> {
    const PACK: fn(T) -> Value = |value| Value::AtHome(Rc::new(value));
}

impl<T: Send + Sync + 'static> Packer<T> {
    /// See [`Packer`].
    pub const PACK: fn(T) -> Value = |value| Value::Anywhere(Arc::new(value));
}

/// A key of [`local!`](crate::local!) has no value where it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessError {
    name: &'static str,
    is_inherited: bool,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        write!(f, "`{name}` has no value here; it has one inside of `{name}.scope(value, future)`")?;
        if self.is_inherited {
            write!(f, " and in what is spawned there, on other threads if the value is `Send` and `Sync`")
        } else {
            write!(f, ", and as it is `not_inherited`, not in what is spawned there")
        }
    }
}

impl Error for AccessError {}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn __new(name: &'static str, pack: fn(T) -> Value) -> Self {
        Self { about: About { name, is_inherited: true, show: None }, pack }
    }

    /// Has the tree and reports show the value. A word for [`local!`](crate::local!).
    #[doc(hidden)]
    #[must_use]
    pub const fn shown(mut self) -> Self
    where
        T: fmt::Display,
    {
        self.about.show = Some(|value| value.downcast_ref::<T>().map(T::to_string).unwrap_or_default());
        self
    }

    /// Keeps the value from what is spawned. A word for [`local!`](crate::local!).
    #[doc(hidden)]
    #[must_use]
    pub const fn not_inherited(mut self) -> Self {
        self.about.is_inherited = false;
        self
    }

    /// Gives the key a value for the time of a future, and for what is spawned in it.
    ///
    /// Other keys keep theirs. The destructor of the future sees the value as well. The future is in a box.
    ///
    /// # Cancellation
    /// The same as that of `future`.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static LEVEL: u32);
    ///
    /// xiio::run(LEVEL.scope(1, async {
    ///     LEVEL.scope(2, async { assert_eq!(LEVEL.get(), 2) }).await;
    ///     assert_eq!(LEVEL.get(), 1);
    /// }));
    /// ```
    pub fn scope<F: IntoFuture>(&'static self, value: T, future: F) -> LocalScope<F::IntoFuture> {
        let entry = Entry { about: &self.about, value: (self.pack)(value) };
        LocalScope { future: Some(Box::pin(future.into_future())), entry, last: None }
    }

    /// Gives the key a value while `body` runs, which is no future: on a thread of one's own, or in a test.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static USER: &'static str);
    ///
    /// assert_eq!(USER.sync_scope("Ada", || xiio::run(async { USER.get() })), "Ada");
    /// ```
    pub fn sync_scope<R>(&'static self, value: T, body: impl FnOnce() -> R) -> R {
        let entry = Entry { about: &self.about, value: (self.pack)(value) };
        let _entered = enter(Locals::with(current().as_ref(), entry));
        body()
    }

    /// Calls `look` with the value.
    ///
    /// # Panics
    /// Where the key has none.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static NAMES: Vec<String>);
    ///
    /// let names = vec!["Ada".to_owned()];
    /// assert_eq!(xiio::run(NAMES.scope(names, async { NAMES.with(|names| names.len()) })), 1);
    /// ```
    #[track_caller]
    pub fn with<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        match self.try_with(look) {
            Ok(seen) => seen,
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls `look` with the value, if there is one.
    ///
    /// # Errors
    /// [`AccessError`] where the key has none; `look` is not called then.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static USER: String);
    ///
    /// assert!(USER.try_with(|user| user.len()).unwrap_err().to_string().starts_with("`USER` has no value here"));
    /// ```
    pub fn try_with<R>(&'static self, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = current().and_then(|locals| locals.find(&self.about));
        let value = value.ok_or(AccessError { name: self.about.name, is_inherited: self.about.is_inherited })?;
        Ok(look(value.get().downcast_ref().unwrap_or_else(|| unreachable!("a key has one type"))))
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// Where the key has none.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static USER: &'static str);
    ///
    /// assert_eq!(xiio::run(USER.scope("Ada", async { USER.get() })), "Ada");
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// A copy of the value, if there is one.
    ///
    /// # Errors
    /// [`AccessError`] where the key has none.
    ///
    /// # Examples
    /// ```
    /// xiio::local!(static USER: &'static str);
    ///
    /// assert_eq!(USER.try_get().unwrap_or("nobody"), "nobody");
    /// ```
    pub fn try_get(&'static self) -> Result<T, AccessError>
    where
        T: Clone,
    {
        self.try_with(T::clone)
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("name", &self.about.name).finish_non_exhaustive()
    }
}

/// A key and its value.
#[derive(Clone)]
struct Entry {
    about: &'static About,
    value: Value,
}

/// The values of a task, or of what is polled in a scope. Counted.
#[derive(Clone)]
pub(crate) struct Locals(Rc<List>);

struct List {
    /// No key twice.
    entries: Vec<Entry>,
    /// The same without what is not inherited; not used where that is all.
    inherited: OnceCell<Locals>,
}

impl Drop for List {
    /// Values are the user's, and a list ends in the middle of something else. One by one: several may panic.
    fn drop(&mut self) {
        mem::take(&mut self.entries).into_iter().for_each(drop_safely);
    }
}

impl Locals {
    fn new(entries: Vec<Entry>) -> Self {
        Self(Rc::new(List { entries, inherited: OnceCell::new() }))
    }

    /// Those of `outer`, and one more or another one.
    fn with(outer: Option<&Self>, entry: Entry) -> Self {
        let outer = outer.into_iter().flat_map(|outer| &outer.0.entries);
        let mut entries: Vec<Entry> = outer.filter(|other| !ptr::eq(other.about, entry.about)).cloned().collect();
        entries.push(entry);
        Self::new(entries)
    }

    fn find(&self, about: &About) -> Option<Value> {
        self.0.entries.iter().find(|entry| ptr::eq(entry.about, about)).map(|entry| entry.value.clone())
    }

    /// What a task has of these that is spawned here.
    fn inherited(&self) -> Self {
        let entries = &self.0.entries;
        if entries.iter().all(|entry| entry.about.is_inherited) {
            return self.clone();
        }
        let inherited = || Self::new(entries.iter().filter(|entry| entry.about.is_inherited).cloned().collect());
        self.0.inherited.get_or_init(inherited).clone()
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Those that are shown: names and values. Calls code of the user.
    pub(crate) fn shown(&self) -> Vec<(&'static str, String)> {
        self.0.entries.iter().filter_map(Entry::shown).collect()
    }

    /// Those that are shown and that are not current here, or otherwise.
    pub(crate) fn shown_beside_current(&self) -> Vec<(&'static str, String)> {
        let around = current();
        let is_around = |entry: &&Entry| {
            let value = around.as_ref().and_then(|around| around.find(entry.about));
            value.is_some_and(|value| ptr::addr_eq(value.get(), entry.value.get()))
        };
        self.0.entries.iter().filter(|entry| !is_around(entry)).filter_map(Entry::shown).collect()
    }
}

impl Entry {
    fn shown(&self) -> Option<(&'static str, String)> {
        let show = self.about.show?;
        let text = catch_unwind(AssertUnwindSafe(|| show(self.value.get()))).unwrap_or_else(|payload| {
            report_panic(&format!("the `Display` of `{}` panicked", self.about.name), payload);
            "(its `Display` panicked)".into()
        });
        Some((self.about.name, text))
    }
}

/// Values that may go to another thread.
pub(crate) struct SentLocals(Vec<(&'static About, Arc<dyn Any + Send + Sync>)>);

impl SentLocals {
    /// Has them current until the result is dropped.
    pub(crate) fn enter(&self) -> Entered {
        let entry =
            |(about, value): &(&'static About, Arc<_>)| Entry { about, value: Value::Anywhere(Arc::clone(value) as _) };
        enter(Locals::new(self.0.iter().map(entry).collect()))
    }

    /// Has what was sent current until the result is dropped, and nothing where that is nothing.
    pub(crate) fn enter_only(sent: Option<&Self>) -> Option<Entered> {
        match sent {
            Some(sent) => Some(sent.enter()),
            // An empty list, and not none: what has none has what is around its poll.
            None => is_any().then(|| enter(Locals::new(Vec::new()))),
        }
    }
}

impl Drop for SentLocals {
    /// As those of a list.
    fn drop(&mut self) {
        mem::take(&mut self.0).into_iter().for_each(drop_safely);
    }
}

thread_local! {
    /// Whether anything is current: one look for what is spawned.
    static IS_ANY: Cell<bool> = const { Cell::new(false) };
    // `ManuallyDrop`: it is asked also where the thread ends. It is empty outside of polls.
    static CURRENT: ManuallyDrop<RefCell<Option<Locals>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

fn current() -> Option<Locals> {
    CURRENT.with(|current| current.borrow().clone())
}

fn replace(locals: Option<Locals>) -> Option<Locals> {
    IS_ANY.set(locals.is_some());
    CURRENT.with(|current| current.replace(locals))
}

/// Whether what is spawned here has anything to inherit, or is kept from something.
#[inline]
pub(crate) fn is_any() -> bool {
    IS_ANY.get()
}

/// Those values that reports show.
pub(crate) fn shown() -> Vec<(&'static str, String)> {
    current().map(|locals| locals.shown()).unwrap_or_default()
}

/// What a task has that is spawned here.
pub(crate) fn inherited() -> Option<Locals> {
    current().map(|locals| locals.inherited())
}

/// What something has that is handed to another thread here.
pub(crate) fn sent() -> Option<SentLocals> {
    let sent: Vec<_> = current()?.inherited().0.entries.iter().filter_map(Entry::sent).collect();
    (!sent.is_empty()).then_some(SentLocals(sent))
}

impl Entry {
    fn sent(&self) -> Option<(&'static About, Arc<dyn Any + Send + Sync>)> {
        match &self.value {
            Value::AtHome(_) => None,
            Value::Anywhere(value) => Some((self.about, Arc::clone(value))),
        }
    }
}

/// Has these current until the result is dropped.
pub(crate) fn enter(locals: Locals) -> Entered {
    Entered { outer: replace(Some(locals)) }
}

/// See [`enter`].
#[must_use]
pub(crate) struct Entered {
    outer: Option<Locals>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(replace(self.outer.take()));
    }
}

/// A future with a value for a key, of [`LocalKey::scope`].
#[must_use = "nothing runs before it is awaited"]
pub struct LocalScope<F> {
    /// `None` when it has ended. In a box, so that it can be dropped where the value is current.
    future: Option<Pin<Box<F>>>,
    entry: Entry,
    /// What was around when it was polled last, and what that is with the value.
    last: Option<(Option<Locals>, Locals)>,
}

impl<F> LocalScope<F> {
    fn enter(&mut self) -> Entered {
        let around = current();
        let is_around = |before: &Option<Locals>| match (before, &around) {
            (None, None) => true,
            (Some(before), Some(around)) => before.is_same(around),
            _ => false,
        };
        let locals = match self.last.take_if(|(before, _)| is_around(before)) {
            Some((_, locals)) => locals,
            None => Locals::with(around.as_ref(), self.entry.clone()),
        };
        self.last = Some((around, locals.clone()));
        enter(locals)
    }
}

impl<F: Future> Future for LocalScope<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let shown = if unwind::is_inspecting() { this.entry.shown() } else { None };
        let _entered = this.enter();
        let _around = shown.map(|(name, value)| {
            unwind::draw_around(|| Node::new(Kind::Local, format!("{name} = {value}")).in_state(unwind::state()))
        });
        let Some(future) = &mut this.future else { panic!("a scope of a local was polled after it had ended") };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            this.future = None;
        }
        polled
    }
}

impl<F> Drop for LocalScope<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            let _entered = self.enter();
            drop(self.future.take());
        }
    }
}

impl<F> fmt::Debug for LocalScope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalScope").field("key", &self.entry.about.name).finish_non_exhaustive()
    }
}
