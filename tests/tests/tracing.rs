//! Spans and events of the feature `tracing`, as a subscriber gets them.

use std::cell::RefCell;
use std::future::pending;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Instrument, Level, Metadata, Subscriber, info, info_span, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::{LookupSpan, Scope};
use xiio::{Canceller, Promise, Task, bracket, sleep, task_group, yield_now};
use xiio_tests::assert_panics;
use xiio_tests::os::rerun;

/// Keeps each event with the names of the spans that it is in.
#[derive(Clone, Default)]
struct Keep(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let scope = cx.event_scope(event).into_iter().flat_map(Scope::from_root);
        let mut text: String = scope.map(|span| format!("{}:", span.name())).collect();
        event.record(&mut Texts(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let mut text = format!("new {}", attributes.metadata().name());
        attributes.record(&mut Texts(&mut text));
        self.0.lock().unwrap().push(text);
    }
}

struct Texts<'a>(&'a mut String);

impl Visit for Texts<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if ["message", "task.name", "why", "place"].contains(&field.name()) {
            self.0.push_str(&format!(" {value:?}"));
        }
    }
}

/// One subscriber at a time: what `tracing` knows of the levels that are wanted is the process's.
static SUBSCRIBING: Mutex<()> = Mutex::new(());

/// What a subscriber hears that takes events up to this level.
fn heard(level: LevelFilter, work: impl Future<Output = ()>) -> Vec<String> {
    heard_of(level, || xiio::run(work))
}

/// The same of whatever runs.
fn heard_of(level: LevelFilter, work: impl FnOnce()) -> Vec<String> {
    let _alone = SUBSCRIBING.lock().unwrap_or_else(PoisonError::into_inner);
    let keep = Keep::default();
    let subscriber = tracing_subscriber::registry().with(keep.clone().with_filter(level));
    tracing::subscriber::with_default(subscriber, work);
    let heard = keep.0.lock().unwrap();
    heard.clone()
}

/// Panics whenever a span is cloned or dropped.
struct Brittle;

impl Subscriber for Brittle {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn try_close(&self, _: span::Id) -> bool {
        panic!("a span is dropped")
    }
}

#[test]
fn a_subscriber_that_panics_over_a_span_loses_no_wake_up() {
    let _alone = SUBSCRIBING.lock().unwrap_or_else(PoisonError::into_inner);
    let promise = Promise::new();
    let woken = tracing::subscriber::with_default(Brittle, || {
        xiio::run(async {
            task_group!(|tg| {
                let waiting = tg.spawn(promise.wait());
                let cancelled = tg.spawn(pending::<()>());
                yield_now().await;
                promise.set(7).unwrap();
                drop(cancelled.cancel());
                waiting.await
            })
        })
    });
    assert_eq!(woken, 7);
}

#[test]
fn a_span_is_around_what_is_spawned_in_it() {
    let heard = heard(LevelFilter::from_level(Level::INFO), async {
        task_group!(|tg| {
            let request = async {
                tg.spawn(async {
                    yield_now().await;
                    info!("in a child");
                });
                sleep(Duration::from_millis(1)).await;
                info!("in the request");
            };
            tg.spawn(request.instrument(info_span!("request")));
            tg.spawn(async { info!("elsewhere") });
        });
        info!("outside");
    });
    assert_eq!(heard, ["new request", " elsewhere", "request: in a child", "request: in the request", " outside"]);
}

#[test]
fn tasks_have_spans_of_their_own_where_somebody_wants_them() {
    let line = line!() + 6;
    let heard = heard(LevelFilter::from_level(Level::DEBUG), async {
        task_group!(|tg| {
            let clingy =
                tg.spawn_named("clingy", bracket((), async |()| sleep(Duration::from_secs(60)).await, async |()| {}));
            yield_now().await;
            clingy.cancel().await;
        });
    });
    assert!(heard.contains(&format!(" a task was cancelled \"asked for\" \"{}:{line}\"", file!())), "{heard:?}");
    let heard = self::heard(LevelFilter::from_level(Level::TRACE), async {
        task_group!(|tg| {
            tg.spawn_named("outer", async {
                task_group!(|inner| {
                    inner.spawn_named("inner", async { info!("here") });
                });
            });
        });
    });
    let news: Vec<&str> = heard.iter().map(String::as_str).filter(|text| text.starts_with("new ")).collect();
    assert_eq!(news, ["new runtime.spawn", "new runtime.spawn \"outer\"", "new runtime.spawn \"inner\""]);
    assert!(heard.contains(&"runtime.spawn:runtime.spawn:runtime.spawn: here".to_owned()), "{heard:?}");
}

#[test]
fn a_run_that_panics_leaves_its_span() {
    let heard = heard_of(LevelFilter::from_level(Level::TRACE), || {
        assert_panics(&["on purpose"], || xiio::run(async { panic!("on purpose") }));
        info!("behind it");
    });
    assert!(heard.contains(&" behind it".to_owned()), "{heard:?}");
}

#[test]
fn a_subscriber_that_panics_breaks_nothing() {
    struct Broken;
    impl<S: Subscriber> Layer<S> for Broken {
        fn on_enter(&self, _: &span::Id, _: Context<'_, S>) {
            panic!("a bug in a subscriber");
        }
    }
    let _alone = SUBSCRIBING.lock().unwrap_or_else(PoisonError::into_inner);
    let subscriber = tracing_subscriber::registry().with(Broken);
    let value = tracing::subscriber::with_default(subscriber, || {
        xiio::run(async { task_group!(|tg| { tg.spawn(async { 7 }).await }) })
    });
    assert_eq!(value, 7);
}

#[test]
fn a_subscriber_may_cancel_what_is_being_cancelled() {
    thread_local!(static CANCELLERS: RefCell<Vec<Canceller>> = const { RefCell::new(Vec::new()) });

    struct CancelAll;
    impl<S: Subscriber> Layer<S> for CancelAll {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            let all = CANCELLERS.take();
            all.iter().for_each(Canceller::cancel);
        }
    }
    let _alone = SUBSCRIBING.lock().unwrap_or_else(PoisonError::into_inner);
    let work = async {
        for is_group in [false, true] {
            task_group!(|tg| {
                let tasks: Vec<_> = (0..4).map(|_| tg.spawn(sleep(Duration::from_secs(3600)))).collect();
                CANCELLERS.replace(tasks.iter().map(Task::canceller).collect());
                yield_now().await;
                if is_group {
                    tg.cancel();
                } else {
                    tasks[1].canceller().cancel();
                }
                for task in tasks {
                    assert!(task.outcome().await.is_err());
                }
            });
        }
    };
    let subscriber = tracing_subscriber::registry().with(CancelAll.with_filter(LevelFilter::DEBUG));
    tracing::subscriber::with_default(subscriber, || xiio::run(work));
}

#[test]
fn a_report_of_a_worker_is_one_event_and_no_line_besides() {
    let output = rerun("program_with_a_report_of_a_worker").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("xiio: "), "{said}");
}

#[test]
#[ignore = "a program for the test above"]
fn program_with_a_report_of_a_worker() {
    let keep = Keep::default();
    // Not of one thread: the worker has to have it, too.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(keep.clone())).unwrap();
    xiio::Builder::new().slow_poll(Duration::from_millis(100)).run(async {
        task_group!(workers = 1, |tg| {
            tg.workers().spawn(async || std::thread::sleep(Duration::from_millis(200)));
        });
    });
    let heard = keep.0.lock().unwrap();
    let is_of_the_worker = |event: &&String| event.contains("without giving way") && event.contains("tracing.rs");
    assert_eq!(heard.iter().filter(is_of_the_worker).count(), 1, "{heard:?}");
}
