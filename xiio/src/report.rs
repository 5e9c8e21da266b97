//! Failures that no return value carries: second failures, cleanups that were cut off, cancelled code that ran
//! on.
//!
//! Reports go to the thread's listener, or to standard error where there is none, so that nothing is lost silently.
//! Standard error may have no room for a second at most; what is lost then is counted there.

use std::any::type_name;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::mem::discriminant;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::Waker;

use crate::drawing::{FileLine, Harmless};
use crate::error::{Payload, panic_text};
use crate::recording;
use crate::sys::stderr::say;

/// Something that went wrong and that no return value carries.
///
/// Its `Display` says what happened, and, as far as that is known, where it happened and what to do. With [`ReportKind::GraceOver`],
/// [`ReportKind::StillStopping`], [`ReportKind::SlowCleanup`] and [`ReportKind::VainPolls`] it goes on with the tree of the tasks in
/// question.
#[derive(Debug, Clone)]
pub struct Report {
    kind: ReportKind,
    text: String,
    /// A subscriber of `tracing` has got it, on the thread that it is of.
    is_traced: bool,
}

/// What a [`Report`] is about.
///
/// # Examples
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use xiio::inspect::{ReportKind, listen};
/// use xiio::{shield, task_group};
///
/// let kinds = Rc::new(RefCell::new(Vec::new()));
/// let sink = Rc::clone(&kinds);
/// let _listening = listen(move |report| sink.borrow_mut().push(report.kind()));
/// let millisecond = std::time::Duration::from_millis(1);
/// let late = xiio::run(async {
///     task_group!(timeout = millisecond, grace = millisecond, |tg| {
///         tg.spawn(shield(std::future::pending::<()>()));
///     })
/// });
/// assert!(late.is_err());
/// assert_eq!(*kinds.borrow(), [ReportKind::GraceOver]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReportKind {
    /// A member of a group failed, and the failure is not the one that the group ends with. Or a destructor, a waker, a thread job or a
    /// tree on another thread panicked, or the usage of a bracket whose release was cut off, and no caller could get the panic.
    LaterFailure,
    /// A cleanup was dropped because the grace was over.
    GraceOver,
    /// A cleanup did not run: its `bracket`, `shield` or group was started, and then dropped by other code than xiio's, by a panic, or
    /// by the end of its run.
    CleanupSkipped,
    /// Code that had been cancelled reached another await, through a foreign combinator.
    RanOn,
    /// A task or a deferred cleanup was refused: its group had ended, or had no worker left. Or a task of hyper's was, as its group was
    /// cancelled.
    Refused,
    /// Something to clean up could not be reached: it was started, and nobody polled it any more.
    Unreachable,
    /// A signal of `cancel_on` has cancelled the tree, and a second later, or at a further signal, the tree is still cleaning up.
    StillStopping,
    /// A child process that is waited for has been stopped, as by the terminal when it reads from the background.
    ChildStopped,
    /// A child process, or a descendant of one, was to be stopped and lives on. It could not be killed, as it runs as another user.
    /// Or descendants may live on, as there were too few descriptors to find them.
    ChildLeft,
    /// A task of a plain group gave an `Err`, and nobody has taken its value. Or another future did, and it could not be handed on: whoever
    /// was to be given it was cancelled, or a panic was thrown in its place.
    ErrorUnheard,
    /// A blocking job has waited a second for a thread, as all threads of its pool are busy.
    NoThread,
    /// A task on a worker has held up the thread of its group for a second.
    HeldUp,
    /// A task was polled for longer than `slow_poll` allows, so that no other could run.
    SlowPoll,
    /// A cleanup has taken longer than `slow_cleanup` allows, and goes on.
    SlowCleanup,
    /// A task was polled more often within a second than `vain_polls` allows, and each time it only woke itself.
    VainPolls,
    /// A group holds more tasks than `many_tasks` allows.
    ManyTasks,
}

impl Report {
    /// What the report is about.
    #[must_use]
    pub fn kind(&self) -> ReportKind {
        self.kind
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who hears of reports.
pub(crate) type Listener = Rc<dyn Fn(&Report)>;

thread_local! {
    /// The last one hears of reports.
    static LISTENERS: RefCell<Vec<Listener>> = const { RefCell::new(Vec::new()) };
}

/// Makes an event of a report; `true` if a subscriber wants it. One that panics is an event lost.
#[cfg(feature = "tracing")]
fn trace(report: &Report) -> bool {
    let event = || {
        let is_wanted = tracing::enabled!(target: "xiio", tracing::Level::WARN);
        tracing::warn!(target: "xiio", kind = ?report.kind, "{report}");
        is_wanted
    };
    catch_unwind(AssertUnwindSafe(event)).unwrap_or_else(|payload| {
        discard(payload);
        false
    })
}

#[cfg(not(feature = "tracing"))]
fn trace(_: &Report) -> bool {
    false
}

/// Hands a report to the listener of this thread and to the subscriber of `tracing`, or to standard error if there is
/// neither.
///
/// A listener that panics is a report lost, not a runtime broken: it may run in the middle of an unwinding.
pub(crate) fn report(kind: ReportKind, text: String) {
    let mut report = Report { kind, text, is_traced: false };
    report.is_traced = trace(&report);
    recording::reported(|| format!("{kind:?}"), &report.text);
    deliver(&report);
}

/// Hands on a report, of this thread or another, that was traced and recorded where that was possible.
pub(crate) fn deliver(report: &Report) {
    let listener = LISTENERS.try_with(|listeners| listeners.borrow().last().cloned()).ok().flatten();
    // It is the last owner of a listener that takes itself out, and drops what that has captured.
    let told = listener.map(|listener| catch_unwind(AssertUnwindSafe(move || listener(report))));
    match told {
        Some(Ok(())) => {}
        None => print_unheard(report),
        Some(Err(payload)) => {
            print(report);
            discard(payload);
        }
    }
}

/// Prints a report that no listener is there for, unless it was traced.
pub(crate) fn print_unheard(report: &Report) {
    if !report.is_traced {
        print(report);
    }
}

fn print(report: &Report) {
    say(&format!("xiio: {report}"));
}

/// Wakes all of them, also after one that panics.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waking(|| waker.wake());
    }
}

/// Calls a waker where more is to be done afterwards. Wakers are user code; one that panics is reported.
pub(crate) fn waking(wake: impl FnOnce()) {
    going_on("a waker panicked", wake);
}

/// Drops what belongs to the user in a place that must go on; a panic is reported.
pub(crate) fn drop_safely<T>(value: T) {
    going_on("a destructor panicked", || drop(value));
}

/// A place for what belongs to the user. What is in it when it is dropped is dropped safely if a panic is under way, where
/// a second one would abort.
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.take() {
            if std::thread::panicking() { drop_safely(value) } else { drop(value) }
        }
    }
}

/// A place for a value on its way to whoever is given it. What is in it when it is dropped is dropped as what is [`Held`], and `report`
/// tells of it before.
pub struct Undelivered<T, R: Fn(&T) = fn(&T)> {
    value: Held<T>,
    report: R,
}

impl<T, R: Fn(&T)> Undelivered<T, R> {
    pub(crate) fn new(value: T, report: R) -> Self {
        Self { value: Held::new(value), report }
    }

    /// A place for a value that is still to come.
    pub(crate) fn expected(report: R) -> Self {
        Self { value: Held::default(), report }
    }

    /// The value comes.
    pub(crate) fn put(&mut self, value: T) {
        self.value = Held::new(value);
    }

    /// What is there, and a place for another.
    pub(crate) fn take(&mut self) -> Self
    where
        R: Copy,
    {
        let empty = Self::expected(self.report);
        std::mem::replace(self, empty)
    }

    /// # Panics
    /// When there is no value.
    pub(crate) fn deliver(mut self) -> T {
        self.value.take().unwrap_or_else(|| unreachable!("a value comes once, and before it is delivered"))
    }
}

impl<T, R: Fn(&T)> Drop for Undelivered<T, R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(value) = self.value.get() {
            (self.report)(value);
        }
    }
}

/// Runs code of the user in a place that must go on; a panic is reported as `what`.
pub(crate) fn going_on(what: &str, code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        report_panic(what, payload);
    }
}

/// Reports a panic that goes no further.
pub(crate) fn report_panic(what: &str, payload: Payload) {
    report(ReportKind::LaterFailure, format!("{what}: {}", panic_text(&*payload)));
    discard(payload);
}

/// Drops a payload. It may be anything, and panic with another one, and so on; that is left to leak after a while.
fn discard(mut payload: Payload) {
    for _ in 0..16 {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(again) => payload = again,
        }
    }
    std::mem::forget(payload);
}

/// Adds a listener, which is the last one then.
pub(crate) fn add_listener(listener: Listener) {
    LISTENERS.with(|listeners| listeners.borrow_mut().push(listener));
}

/// Takes a listener out, wherever it stands. Where its thread ends the others may be gone already.
pub(crate) fn remove_listener(listener: &Listener) {
    let _ = LISTENERS.try_with(|listeners| listeners.borrow_mut().retain(|other| !Rc::ptr_eq(other, listener)));
}

/// A task as reports and drawings speak of it: behind "a task" or "the task".
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) location: &'static Location<'static>,
    pub(crate) name: Option<Cow<'static, str>>,
    /// What tells it apart from others of its place: values of `local!` that are shown.
    pub(crate) locals: Vec<(&'static str, String)>,
}

impl Origin {
    /// Of a task without a name.
    pub(crate) fn at(location: &'static Location<'static>) -> Self {
        Self { location, name: None, locals: Vec::new() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "`{}`, ", Harmless(name))?;
        }
        write!(f, "spawned at {}", FileLine(self.location))?;
        self.locals.iter().try_for_each(|(name, value)| write!(f, ", {name} = {}", Harmless(value)))
    }
}

/// Reports the value of a task that is dropped if it is an `Err`.
#[inline]
pub(crate) fn report_if_err<T>(value: &T, location: &'static Location<'static>) {
    report_err(value, |type_name| {
        format!(
            "a task, {}, ended with an `Err` that nobody has taken ({type_name}); await its handle, handle the error in \
             the task, or take `try_task_group!`, whose failure it is (`try_join!` for `join!`, `try_gather` for `gather`)",
            Origin::at(location)
        )
    });
}

/// Reports a value that has come after a cancellation if it is an `Err`: code that does not run on is given none. `what` is whose it is.
#[inline]
pub(crate) fn report_late_err<T>(value: &T, what: impl FnOnce() -> String) {
    report_err(value, |type_name| late_err(&what(), type_name));
}

/// What there is to say of a late `Err`.
pub(crate) fn late_err(what: &str, type_name: &str) -> String {
    format!(
        "{what} was cancelled, and then ended with an `Err` that nobody is given ({type_name}); take it with `on_late` of a `shield`, or let \
         the `shield` be all there is of a task in a `try_task_group!`, unboxed: then the `Err` is the group's"
    )
}

/// [`report_late_err`] for what ends by itself in the very poll in which it is told of its cancellation. `label` is what is around it.
#[cold]
pub(crate) fn report_in_pass<T>(value: &T, label: &str) {
    report_err(value, |type_name| {
        format!(
            "a `{label}` was cancelled, and what is in it ended meanwhile with an `Err` that nobody is given ({type_name}); handle the \
             error inside"
        )
    });
}

/// Reports a value in whose place a panic is thrown, if it is an `Err`.
#[cold]
pub(crate) fn report_replaced<T>(value: &T) {
    report_err(value, |type_name| {
        format!(
            "an `Err` ({type_name}) is not given to anybody: a cleanup or a destructor panicked, and the panic takes its place"
        )
    });
}

/// Reports a value that nobody is given if it is an `Err`; `text` is told its type.
#[inline]
pub(crate) fn report_err<T>(value: &T, text: impl FnOnce(&str) -> String) {
    if let Some(type_name) = err_type(value) {
        report(ReportKind::ErrorUnheard, text(type_name));
    }
}

/// Reports those of several outputs that are an `Err`, and that nobody is given: all in one. `what` gave them; `remedy` is what to do.
pub(crate) fn report_errs<'a, T: 'a>(outputs: impl IntoIterator<Item = &'a T>, what: &str, remedy: &str) {
    let n_errs = outputs.into_iter().filter(|output| is_err(*output)).count();
    if n_errs > 0 {
        let type_name = type_name::<T>();
        let text = format!("nobody is given {n_errs} `Err` of {what} ({type_name}); {remedy}");
        report(ReportKind::ErrorUnheard, text);
    }
}

/// The type of a value that is an `Err`.
#[inline]
pub(crate) fn err_type<T>(value: &T) -> Option<&'static str> {
    is_err(value).then(type_name::<T>)
}

/// Whether a value is an `Err`.
///
/// What type it is only its name tells, and which variant the text of its discriminant: there is no way to ask a type that is
/// any for more. Should `std` write either otherwise, no value is one.
#[inline]
pub(crate) fn is_err<T>(value: &T) -> bool {
    type_name::<T>().starts_with("core::result::Result<") && is_second(discriminant(value))
}

#[cold]
fn is_second(variant: impl fmt::Debug) -> bool {
    format!("{variant:?}") == "Discriminant(1)"
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Keeps the target and the fields of every event.
    struct Keep(Arc<Mutex<Vec<String>>>);

    struct Fields<'a>(&'a mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }

    impl Subscriber for Keep {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = event.metadata().target().to_string();
            event.record(&mut Fields(&mut text));
            self.0.lock().expect("no panic in a test's subscriber").push(text);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn a_report_needs_standard_error_only_where_nobody_subscribes() {
        let report = Report { kind: ReportKind::Refused, text: "a task was refused".into(), is_traced: false };
        assert!(!trace(&report));
        assert!(tracing::subscriber::with_default(Keep(Arc::default()), || trace(&report)));
    }

    #[test]
    fn report_is_an_event() {
        let events = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Keep(Arc::clone(&events)), || {
            report(ReportKind::Refused, "a task was refused".into());
        });
        let events = events.lock().expect("no panic in a test's subscriber");
        let [event] = events.as_slice() else { panic!("one event, not {events:?}") };
        assert!(
            event.starts_with("xiio ") && event.contains("Refused") && event.contains("a task was refused"),
            "{event}"
        );
    }
}
