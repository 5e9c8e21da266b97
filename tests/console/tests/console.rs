//! What a console of tokio's sees of a program: asked as the console asks, over the real `console-subscriber`.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use console_api::field::{Name, Value};
use console_api::instrument::InstrumentRequest;
use console_api::instrument::instrument_client::InstrumentClient;
use console_api::tasks::{Stats, Task};
use console_subscriber::ConsoleLayer;
use tracing_subscriber::prelude::*;
use xiio::{sleep, task_group, yield_now};

/// What the console knows of the tasks.
#[derive(Default)]
struct Seen {
    tasks: HashMap<u64, Task>,
    stats: HashMap<u64, Stats>,
}

impl Seen {
    /// The task of this name, and how it went with it.
    fn find(&self, name: &str) -> Option<(&Task, &Stats)> {
        let task = self.tasks.values().find(|task| text_of(task, "task.name").is_some_and(|found| found == name))?;
        Some((task, self.stats.get(&task.id.as_ref()?.id)?))
    }
}

fn text_of<'a>(task: &'a Task, field: &str) -> Option<&'a str> {
    task.fields.iter().find_map(|found| match (&found.name, &found.value) {
        (Some(Name::StrName(name)), Some(Value::StrVal(value) | Value::DebugVal(value))) if name == field => {
            Some(&**value)
        }
        _ => None,
    })
}

/// Looks until it has seen what it is to see.
async fn look(addr: SocketAddr, is_enough: impl Fn(&Seen) -> bool) -> Seen {
    let mut client = loop {
        match InstrumentClient::connect(format!("http://{addr}")).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let mut updates = client.watch_updates(InstrumentRequest {}).await.unwrap().into_inner();
    let mut seen = Seen::default();
    while !is_enough(&seen) {
        let update = updates.message().await.unwrap().expect("the program runs");
        let Some(tasks) = update.task_update else { continue };
        seen.tasks.extend(tasks.new_tasks.into_iter().map(|task| (task.id.as_ref().unwrap().id, task)));
        seen.stats.extend(tasks.stats_update);
    }
    seen
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn tasks_have_their_names_places_polls_and_wakes() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = ConsoleLayer::builder().server_addr(addr).publish_interval(Duration::from_millis(20));
    let (layer, server) = builder.build();
    tracing_subscriber::registry().with(layer).init();
    thread::spawn(move || block_on(server.serve()).unwrap());
    let looking = thread::spawn(move || {
        block_on(look(addr, |seen| {
            let ticker = seen.find("ticker").is_some_and(|(_, stats)| stats.poll_stats.as_ref().unwrap().polls > 3);
            ticker && seen.find("ended").is_some_and(|(_, stats)| stats.dropped_at.is_some())
        }))
    });
    let line = line!() + 3;
    xiio::run(async {
        task_group!(|tg| {
            tg.spawn_named("ticker", async {
                while !looking.is_finished() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            tg.spawn_named("ended", async {
                // Whoever looks has it from the start.
                sleep(Duration::from_millis(500)).await;
                yield_now().await;
            });
        });
    });
    let seen = looking.join().unwrap();
    let (ticker, stats) = seen.find("ticker").unwrap();
    let place = ticker.location.as_ref().unwrap();
    assert!(place.file.as_deref().is_some_and(|file| file.ends_with("console.rs")), "{place:?}");
    assert_eq!(place.line, Some(line));
    assert!(stats.wakes > 2, "{stats:?}");
    // Or else the console warns of a task that has lost its waker.
    assert!(stats.waker_clones > stats.waker_drops, "{stats:?}");
    let (ended, stats) = seen.find("ended").unwrap();
    assert_eq!(text_of(ended, "kind"), Some("task"));
    assert!(stats.poll_stats.as_ref().unwrap().polls >= 2, "{stats:?}");
    let kinds: HashSet<&str> = seen.tasks.values().filter_map(|task| text_of(task, "kind")).collect();
    assert_eq!(kinds, HashSet::from(["task", "block_on"]));
}
