//! The page of a recording in a browser: by keys, by clicks, and with what hostile recordings have in them.
//!
//! Where there is no Chromium these tests say so and pass.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, iter, process, thread};

use serde_json::{Value, json};
use xiio::inspect::{listen, record};
use xiio::testing::{Tester, cancel_everywhere_and};
use xiio::{bracket, shield, sleep, task_group, timeout, yield_now};

/// More than a browser takes on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(90);

/// Chromium with one page, driven over a pair of pipes. The protocol is that of its developer tools.
struct Browser {
    child: Child,
    directory: PathBuf,
    requests: File,
    answers: Receiver<Value>,
    session: Value,
    n_sent: u64,
    /// What the page has asked the network for, or complained of.
    noted: Vec<Value>,
}

impl Browser {
    /// `None` where there is none.
    fn start() -> Option<Self> {
        static N_STARTED: AtomicU32 = AtomicU32::new(0);
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let paths = env::split_paths(&env::var_os("PATH")?).collect::<Vec<_>>();
        let found =
            names.iter().flat_map(|name| paths.iter().map(move |path| path.join(name))).find(|path| path.exists());
        let Some(program) = found else {
            eprintln!("SKIPPED: there is no Chromium here, so the page was opened by nobody");
            return None;
        };
        let number = N_STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("xiio-page-{}-{number}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (to, from) = (directory.join("to"), directory.join("from"));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // It reads from descriptor 3 and writes to 4.
        let script = r#"exec "$0" --headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe "--user-data-dir=$1" about:blank 3<"$2" 4>"$3""#;
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).args([&program, &directory.join("profile"), &to, &from]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let requests = OpenOptions::new().write(true).open(&to).unwrap();
        let answers = read_from(&from);
        let mut browser =
            Self { child, directory, requests, answers, session: Value::Null, n_sent: 0, noted: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", &attach)["sessionId"].clone();
        let screen = json!({ "width": 1280, "height": 760, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", &screen);
        for domain in ["Page.enable", "Runtime.enable", "Network.enable"] {
            browser.call(domain, &json!({}));
        }
        Some(browser)
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.n_sent += 1;
        let mut message = json!({ "id": self.n_sent, "method": method, "params": params });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.requests.write_all(message.to_string().as_bytes()).unwrap();
        self.requests.write_all(b"\0").unwrap();
        loop {
            let answer =
                self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no answer to {method}: {error}"));
            if answer["id"] == self.n_sent {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let of = answer["method"].as_str().unwrap_or_default();
            if ["Network.requestWillBeSent", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"].contains(&of) {
                self.noted.push(answer);
            }
        }
    }

    /// Opens the page that `xiio-inspect view` makes of a recording.
    fn open(&mut self, trace: &str) {
        let file = self.directory.join("recording.json");
        fs::write(&file, trace).unwrap();
        let tool = Command::new(env!("CARGO_BIN_EXE_xiio-inspect")).arg("view").arg(&file).output().unwrap();
        assert!(tool.status.success(), "{}", String::from_utf8_lossy(&tool.stderr));
        self.open_page(&file.with_extension("html"));
    }

    fn open_page(&mut self, page: &Path) {
        self.noted.clear();
        self.call("Page.navigate", &json!({ "url": format!("file://{}", page.display()) }));
        self.wait_until("document.body?.dataset.ready ?? ''", |ready| !ready.is_empty());
    }

    fn evaluate(&mut self, script: &str) -> String {
        let result = self.call("Runtime.evaluate", &json!({ "expression": format!("String({script})") }));
        result["result"]["value"].as_str().unwrap_or_else(|| panic!("{script}: {result}")).to_owned()
    }

    fn text(&mut self, id: &str) -> String {
        self.evaluate(&format!("document.getElementById('{id}').textContent"))
    }

    /// Frames come when they come.
    #[track_caller]
    fn wait_until(&mut self, script: &str, is_there: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.evaluate(script);
            if is_there(&value) {
                return value;
            }
            assert!(Instant::now() < end, "waited in vain, {script} is {value}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.call("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key, "text": text }));
        }
    }

    /// A point within an element, in parts of its size.
    fn click(&mut self, element: &str, across: f64, down: f64) {
        let script = format!(
            "(() => {{ const box = document.querySelector('{element}').getBoundingClientRect(); \
             return (box.left + box.width * {across}) + ' ' + (box.top + box.height * {down}); }})()"
        );
        let place = self.evaluate(&script);
        let (x, y) = place.split_once(' ').unwrap();
        let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Nothing was thrown, nobody was asked, and nothing came over the network.
    fn assert_quiet(&mut self) {
        self.evaluate("1");
        let url = |note: &Value| note["params"]["request"]["url"].as_str().unwrap_or_default().to_owned();
        let is_own = |note: &Value| url(note).starts_with("file://") && url(note).ends_with(".html");
        let noted: Vec<&Value> = self.noted.iter().filter(|note| !is_own(note)).collect();
        assert!(noted.is_empty(), "{noted:?}");
    }

    /// A picture, where one is asked for by `XIIO_PICTURES=DIRECTORY`.
    fn picture(&mut self, name: &str) {
        let Some(directory) = env::var_os("XIIO_PICTURES") else { return };
        self.evaluate("getComputedStyle(document.body).color");
        thread::sleep(Duration::from_millis(200));
        let picture = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let file = Path::new(&directory).join(format!("{name}.png.base64"));
        fs::write(file, picture["data"].as_str().unwrap()).unwrap();
    }

    fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Messages end in a zero.
fn read_from(pipe: &Path) -> Receiver<Value> {
    let (sender, receiver) = channel();
    let pipe = pipe.to_owned();
    thread::spawn(move || {
        let messages = BufReader::new(File::open(pipe).unwrap()).split(0);
        for message in messages.map_while(Result::ok) {
            let message = serde_json::from_slice(&message).expect("the browser writes JSON");
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What the example of a busy server has done, as it is recorded when it is asked for: once its four clients had their time before its own was over.
fn busy_server() -> String {
    static N_RUNS: AtomicU32 = AtomicU32::new(0);
    let number = N_RUNS.fetch_add(1, Ordering::Relaxed);
    let file = env::temp_dir().join(format!("xiio-busy-{}-{number}.json", process::id()));
    // The examples are beside the tests, one level up.
    let program = env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/busy_server");
    let run = || {
        let ran = Command::new(&program).env("XIIO_RECORD", &file).status().expect("`cargo test` builds the examples");
        assert!(ran.success());
        let trace = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        trace
    };
    let is_in_time = |trace: &String| trace.matches("a limit of time in it was over").count() == 4;
    iter::repeat_with(run).take(100).find(is_in_time).expect("the machine is too busy for a server of 90 milliseconds")
}

#[test]
fn the_tree_follows_the_cursor_and_a_cancellation_is_followed_to_its_end() {
    let Some(mut browser) = Browser::start() else { return };
    browser.prefer("light");
    browser.open(&busy_server());
    assert_eq!(browser.evaluate("document.body.dataset.ready"), "yes");
    assert!(browser.text("summary").contains("events"), "{}", browser.text("summary"));
    // The tree, at the beginning and where the time of the whole is over.
    browser.press("Home");
    browser.wait_until("document.getElementById('tree').textContent", |tree| !tree.contains("connection 1"));
    browser.click("#timeline", 0.6, 0.01);
    browser.wait_until("document.getElementById('tree').textContent", |tree| {
        tree.contains("connection 1") && tree.contains("waits")
    });
    let before = browser.text("cursor-time");
    browser.press("ArrowRight");
    browser.wait_until("document.getElementById('cursor-time').textContent", |time| time != before);
    // Search, by keys alone.
    browser.press("/");
    assert_eq!(browser.evaluate("document.activeElement.id"), "search");
    browser.call("Input.insertText", &json!({ "text": "reader" }));
    browser.press("Enter");
    browser.wait_until("document.getElementById('matches').textContent", |matches| matches == "1 of 1");
    let detail = browser.text("detail");
    assert!(detail.contains("reader") && detail.contains("busy_server.rs:"), "{detail}");
    assert!(detail.contains("woken by") && detail.contains("cache"), "who has set the promise: {detail}");
    browser.press("Escape");
    // The cancellation of the whole: from its cause to the last cleanup, which takes six milliseconds.
    let n_cancellations: usize = browser.text("n-cancellations").parse().unwrap();
    assert_eq!(n_cancellations, 5, "four limits of time, and that of the server");
    for _ in 0..n_cancellations {
        browser.press("c");
    }
    let detail = browser.text("detail");
    assert!(detail.contains("group server, its time is over"), "{detail}");
    let (cleaned, ended) = (detail.find("cleanup of bracket"), detail.rfind("ended: cancelled"));
    assert!(cleaned.is_some() && cleaned < ended, "{detail}");
    let cost = browser.evaluate("document.querySelector('#cancellations .chosen .cost').textContent");
    let milliseconds: f64 = cost.strip_suffix(" ms").unwrap_or_else(|| panic!("{cost}")).parse().unwrap();
    assert!((6.0..500.0).contains(&milliseconds), "{cost}");
    browser.picture("recording-cancellation");
    browser.press("Escape");
    browser.press("0");
    browser.click("#timeline", 0.55, 0.35);
    assert!(!browser.text("status").is_empty());
    browser.prefer("dark");
    browser.picture("recording-dark");
    let dark = browser.evaluate("getComputedStyle(document.body).backgroundColor");
    browser.prefer("light");
    assert_ne!(browser.evaluate("getComputedStyle(document.body).backgroundColor"), dark);
    browser.assert_quiet();
}

#[test]
fn the_page_of_a_failed_test_opens_where_it_broke() {
    let Some(mut browser) = Browser::start() else { return };
    let n_open = Cell::new(0);
    let transfer = || async {
        task_group!(name = "transfer", |tg| {
            tg.spawn_named("audit", async {
                for _ in 0..6 {
                    yield_now().await;
                }
            });
            let transaction = async |(): &mut ()| {
                yield_now().await;
                n_open.set(1);
                yield_now().await;
                n_open.set(0);
            };
            // It forgets to roll back.
            tg.spawn_named("transaction", bracket((), transaction, async |()| yield_now().await));
        });
    };
    let check = || assert_eq!(n_open.replace(0), 0, "a transaction is open still");
    assert!(catch_unwind(AssertUnwindSafe(|| cancel_everywhere_and(transfer, check))).is_err());
    let this = env::current_exe().unwrap();
    let hash = this.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap().1;
    let page = format!("xiio/page.the_page_of_a_failed_test_opens_where_it_broke-{hash}.html");
    let page = this.ancestors().nth(3).unwrap().join(page);
    browser.prefer("dark");
    browser.open_page(&page);
    let note = browser.text("note");
    assert!(note.starts_with("cancelled at await ") && note.contains("a transaction is open still"), "{note}");
    assert!(note.contains("task `transaction`, spawned at"), "{note}");
    let detail = browser.text("detail");
    assert!(
        detail.contains("the test cancels it here") && detail.contains("transaction cleanup of bracket"),
        "{detail}"
    );
    browser.picture("recording-test");
    browser.assert_quiet();
    fs::remove_file(page).unwrap();
}

#[test]
fn an_hour_of_virtual_time_is_an_hour_of_the_page() {
    let Some(mut browser) = Browser::start() else { return };
    let trace = RefCell::default();
    Tester::new().virtual_time().run(|| async {
        let recording = record(1000);
        task_group!(name = "patient", |tg| {
            for minutes in [10, 20, 30] {
                tg.spawn_named(format!("sleeper {minutes}"), sleep(Duration::from_secs(60 * minutes)));
            }
        });
        trace.replace(recording.to_json());
    });
    browser.open(&trace.take());
    let summary = browser.text("summary");
    assert!(summary.starts_with("1800 s · ") && summary.contains("1800 s skipped by virtual time"), "{summary}");
    // The cursor is in the middle, after fifteen minutes.
    let tree = browser.text("tree");
    assert!(!tree.contains("sleeper 10") && tree.contains("sleeper 20") && tree.contains("sleeper 30"), "{tree}");
    browser.picture("recording-virtual");
    browser.assert_quiet();
}

#[test]
fn keys_step_from_poll_to_poll_however_far_these_are_from_the_start() {
    let Some(mut browser) = Browser::start() else { return };
    let trace = RefCell::default();
    let days = |n: u64| Duration::from_secs(n * 24 * 3600);
    Tester::new().virtual_time().run(|| async {
        let recording = record(1000);
        task_group!(|tg| {
            tg.spawn_named("patient", async {
                for _ in 0..3 {
                    sleep(days(1000)).await;
                }
            });
        });
        trace.replace(recording.to_json());
    });
    browser.open(&trace.take());
    browser.press("/");
    browser.call("Input.insertText", &json!({ "text": "patient" }));
    browser.press("Enter");
    let mut step = |key: &str| {
        let event = format!("new KeyboardEvent('keydown', {{ key: '{key}', shiftKey: true }})");
        browser.evaluate(&format!("(document.dispatchEvent({event}), document.getElementById('status').textContent)"))
    };
    step("Home");
    let there: Vec<String> = (0..4).map(|_| step("ArrowRight")).collect();
    let mut back: Vec<String> = (0..3).map(|_| step("ArrowLeft")).collect();
    back.reverse();
    assert_eq!(there[..3], back, "{there:?}");
    assert!(there.windows(2).all(|pair| pair[0] != pair[1]), "{there:?}");
    browser.assert_quiet();
}

/// A cleanup around another one begins before it and ends after it.
#[test]
fn a_member_cleans_up_until_its_outermost_cleanup_is_over() {
    let Some(mut browser) = Browser::start() else { return };
    let trace = RefCell::default();
    Tester::new().virtual_time().run(|| async {
        let recording = record(1000);
        let minutes = |n: u64| sleep(Duration::from_secs(60 * n));
        let inner = async || bracket((), async |()| minutes(60).await, async |()| minutes(10).await).await;
        task_group!(|tg| {
            let layers = bracket((), async |()| inner().await, async |()| minutes(40).await);
            let task = tg.spawn_named("layers", layers);
            minutes(10).await;
            task.cancel().await;
        });
        trace.replace(recording.to_json());
    });
    browser.open(&trace.take());
    // The cursor is in the middle, ten minutes after the end of the inner one.
    let tree = "document.getElementById('tree').textContent";
    browser.wait_until(tree, |tree| tree.contains("layers") && tree.contains("cleans up"));
    browser.assert_quiet();
}

#[test]
fn a_cleanup_that_is_cut_off_costs_no_more_than_its_grace() {
    let Some(mut browser) = Browser::start() else { return };
    let trace = RefCell::default();
    Tester::new().virtual_time().run(|| async {
        let (recording, _listening) = (record(1000), listen(|_| {}));
        let seconds = Duration::from_secs;
        let late = task_group!(timeout = seconds(1), grace = seconds(2), |tg| {
            tg.spawn(shield(pending::<()>()));
        });
        assert!(late.is_err());
        sleep(seconds(5000)).await;
        trace.replace(recording.to_json());
    });
    browser.open(&trace.take());
    browser.press("c");
    let detail = browser.text("detail");
    assert!(detail.contains("cost2.00 s") && detail.contains(", was cut off after 2.00 s"), "{detail}");
    browser.assert_quiet();
}

/// Whoever was cancelled, and what that has cost.
const COSTS: &str = "[...document.querySelectorAll('#cancellations button')].map((button) => \
    button.querySelector('strong').textContent + ': ' + button.querySelector('.cost').textContent).join('; ')";

#[test]
fn what_a_group_does_after_a_cancellation_in_it_is_no_part_of_its_cost() {
    let Some(mut browser) = Browser::start() else { return };
    let trace = RefCell::default();
    Tester::new().virtual_time().run(|| async {
        let recording = record(1000);
        let seconds = |n: u64| sleep(Duration::from_secs(n));
        task_group!(name = "shop", |tg| {
            tg.defer(async { seconds(5).await });
            tg.spawn_named("order", bracket((), async |()| pending::<()>().await, async |()| seconds(2).await));
            seconds(10).await;
            tg.cancel();
            seconds(10).await;
            let slow = bracket((), async |()| pending::<()>().await, async |()| seconds(3).await);
            assert!(timeout(Duration::from_secs(10), slow).await.is_err());
            seconds(3600).await;
        });
        let late = task_group!(name = "late", timeout = Duration::from_secs(10), |tg| {
            tg.defer(async { seconds(4).await });
            seconds(3600).await;
        });
        assert!(late.is_err());
        trace.replace(recording.to_json());
    });
    browser.open(&trace.take());
    let costs = browser.evaluate(COSTS);
    assert_eq!(costs, "group shop: 2.00 s; group shop: 3.00 s; group late: 4.00 s");
    browser.press("c");
    let detail = browser.text("detail");
    assert!(detail.contains("2 cancellations, 1 cleanup") && detail.contains("order cleanup of bracket"), "{detail}");
    browser.assert_quiet();
}

/// Workers go on as their group does.
#[test]
fn what_workers_do_after_a_cancellation_in_their_group_is_no_part_of_its_cost() {
    let Some(mut browser) = Browser::start() else { return };
    let recording = record(1000);
    xiio::run(async {
        let begun = &AtomicU32::new(0);
        task_group!(name = "crew", workers = 2, |tg| {
            for _ in 0..4 {
                tg.workers().spawn(async || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    pending::<()>().await;
                });
            }
            while begun.load(Ordering::Relaxed) < 4 {
                sleep(Duration::from_millis(1)).await;
            }
            tg.cancel();
            tg.workers().spawn(async || yield_now().await);
        });
    });
    browser.open(&recording.to_json());
    browser.press("c");
    let detail = browser.text("detail");
    assert!(detail.contains("ended: cancelled") && !detail.contains("ended: ended"), "{detail}");
    let costs = browser.evaluate(COSTS);
    assert!(costs.starts_with("group crew: ") && !costs.contains(';'), "{costs}");
    browser.assert_quiet();
}

#[test]
fn recordings_of_nothing_and_of_too_much_are_shown() {
    let Some(mut browser) = Browser::start() else { return };
    let nothing = record(0).to_json();
    browser.open(&nothing);
    assert!(browser.text("summary").contains("1 member"), "{}", browser.text("summary"));
    let recording = record(50);
    xiio::run(async {
        task_group!(name = "long", workers = 1, |tg| {
            for _ in 0..100 {
                tg.spawn(yield_now());
            }
            for number in 0..100 {
                tg.workers().spawn(async move || {
                    if number == 50 {
                        yield_now().await;
                    }
                });
            }
        });
    });
    browser.open(&recording.to_json());
    let summary = browser.text("summary");
    assert!(summary.contains("older events were not kept"), "{summary}");
    for key in ["0", "+", "-", "ArrowDown", "ArrowRight", "/"] {
        browser.press(key);
    }
    browser.assert_quiet();
}

#[test]
fn each_control_is_reached_by_the_tabulator() {
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&busy_server());
    let mut reached = Vec::new();
    for _ in 0..12 {
        browser.press("Tab");
        reached.push(browser.evaluate("document.activeElement.id"));
    }
    let wanted = ["search", "zoom-out", "zoom-in", "fit", "show-help", "rows", "tree"];
    let order: Vec<&str> = reached.iter().map(|id| &**id).filter(|id| wanted.contains(id)).collect();
    assert_eq!(order, wanted);
    browser.press("?");
    assert_eq!(browser.evaluate("document.getElementById('help').open"), "true");
    browser.assert_quiet();
}

#[test]
fn names_are_shown_and_do_nothing() {
    const NAME: &str = "</script><img src=x onerror=alert(1)><b>\u{1b}[31m\u{202e}\u{0}";
    let Some(mut browser) = Browser::start() else { return };
    let recording = record(1000);
    xiio::run(async { task_group!(|tg| tg.spawn_named(NAME, yield_now()).await) });
    browser.open(&recording.to_json());
    browser.press("ArrowDown");
    browser.press("/");
    browser.call("Input.insertText", &json!({ "text": "onerror" }));
    browser.press("Enter");
    let detail = browser.text("detail");
    assert!(detail.contains("</script><img src=x onerror=alert(1)><b>␛[31m\\u{202e}␀"), "{detail}");
    assert_eq!(browser.evaluate("document.images.length + document.querySelectorAll('b b, #detail b').length"), "0");
    browser.assert_quiet();
}

#[test]
fn the_strip_has_the_time_in_polls_also_where_the_root_is_in_none() {
    let Some(mut browser) = Browser::start() else { return };
    // The run was not recorded when it began, so its root is not noted.
    let trace = xiio::run(async {
        let recording = record(1000);
        task_group!(|tg| {
            for _ in 0..3 {
                tg.spawn(async { thread::sleep(Duration::from_millis(20)) });
            }
        });
        recording.to_json()
    });
    browser.open(&trace);
    // Of a line near the bottom of the strip, to the right of the names.
    let n_filled = "(() => { const strip = document.getElementById('overview'); if (strip.width <= 300) return 0; \
        const { data } = strip.getContext('2d').getImageData(300, strip.height - 5, strip.width - 300, 1); \
        return data.filter((value, index) => index % 4 === 3 && value === 255).length; })()";
    browser.wait_until(n_filled, |n_filled| n_filled.parse::<usize>().unwrap() > 300);
    browser.assert_quiet();
}

#[test]
fn what_a_recording_says_of_itself_may_be_anything() {
    let Some(mut browser) = Browser::start() else { return };
    let hostile = json!({ "toString": 0, "valueOf": 0 });
    for field in ["program", "note", "lost", "microseconds", "virtual_microseconds"] {
        let trace = json!({ "traceEvents": [], "otherData": { "xiio_recording": 1, field: hostile } });
        browser.open(&trace.to_string());
        assert_eq!(browser.evaluate("document.body.dataset.ready"), "error", "{field}");
        assert!(browser.text("error").contains("cannot be shown: "), "{field}");
        browser.assert_quiet();
    }
}

#[test]
fn a_time_that_no_recording_has_is_an_error() {
    let Some(mut browser) = Browser::start() else { return };
    let life = json!({ "ph": "X", "pid": 1, "tid": 1, "cat": "life", "name": "x", "ts": 1e308, "dur": 1e308 });
    let about = |microseconds: Value| json!({ "xiio_recording": 1, "microseconds": microseconds });
    for trace in [
        json!({ "traceEvents": [life], "otherData": about(json!(5)) }),
        json!({ "traceEvents": [], "otherData": about(json!("Infinity")) }),
    ] {
        browser.open(&trace.to_string());
        assert_eq!(browser.evaluate("document.body.dataset.ready"), "error", "{trace}");
        assert!(browser.text("error").ends_with("it lasts longer than any recording"), "{}", browser.text("error"));
        browser.assert_quiet();
    }
}

#[test]
fn a_poll_without_an_end_is_none() {
    let Some(mut browser) = Browser::start() else { return };
    let life = json!({ "ph": "X", "pid": 1, "tid": 1, "cat": "life", "name": "x", "ts": 1, "dur": 5 });
    let poll = |phase: &str, at: u32| json!({ "ph": phase, "pid": 1, "tid": 1, "cat": "poll", "name": "x", "ts": at, "dur": 1, "id": 1 });
    let mut instant = poll("i", 2);
    instant.as_object_mut().unwrap().remove("dur");
    let events = [life, instant, poll("b", 3), poll("X", 4)];
    browser.open(&json!({ "traceEvents": events, "otherData": { "xiio_recording": 1 } }).to_string());
    for key in ["ArrowDown", "ArrowDown"] {
        browser.press(key);
    }
    let detail = browser.text("detail");
    assert!(detail.contains("polls1, 1.00 µs in all"), "{detail}");
    browser.assert_quiet();
}

/// Each is cancelled with what is around it, the innermost first: nobody around was cancelled before.
#[test]
fn a_cancellation_is_followed_through_any_number_of_members_around_it() {
    const N_MEMBERS: u64 = 50_000;
    let Some(mut browser) = Browser::start() else { return };
    let args = |number: u64| json!({ "kind": "task", "name": format!("task {number}"), "parent": number - 1 });
    let lives = (1..=N_MEMBERS).map(|number| json!({ "ph": "X", "pid": 1, "tid": number, "cat": "life", "name": "x", "ts": 0, "dur": N_MEMBERS, "args": args(number) }));
    let why = json!({ "why": "what is around it was cancelled" });
    let cancel = |number: u64, at: u64| json!({ "ph": "i", "pid": 1, "tid": number, "cat": "cancel", "name": "x", "ts": at, "args": why });
    let cancels = (1..=N_MEMBERS).map(|number| cancel(number, N_MEMBERS - number));
    // One that was cancelled alone is the cause of what is in it.
    let again = [cancel(N_MEMBERS, N_MEMBERS), cancel(N_MEMBERS - 100, N_MEMBERS)];
    let events: Vec<Value> = lives.chain(cancels).chain(again).collect();
    browser.open(&json!({ "traceEvents": events, "otherData": { "xiio_recording": 1 } }).to_string());
    assert_eq!(browser.evaluate("document.body.dataset.ready"), "yes");
    assert_eq!(browser.text("n-cancellations"), N_MEMBERS.to_string());
    let of_two = "[...document.querySelectorAll('#cancellations button')].map((button, index) => \
        button.textContent.includes('2 cancellations') ? index : -1).filter((index) => index >= 0)";
    assert_eq!(browser.evaluate(of_two), "1,101", "they went on to the next around");
    browser.assert_quiet();
}

#[test]
fn the_text_of_a_report_is_shown_and_does_nothing() {
    let Some(mut browser) = Browser::start() else { return };
    let life = json!({ "ph": "X", "pid": 1, "tid": 1, "cat": "life", "name": "x", "ts": 1, "dur": 5 });
    let args = json!({ "kind": "Panic", "text": "first\nsecond\u{1b}[31m\u{202e}" });
    let report = json!({ "ph": "i", "pid": 1, "tid": 1, "cat": "report", "name": "x", "ts": 2, "args": args });
    browser.open(&json!({ "traceEvents": [life, report], "otherData": { "xiio_recording": 1 } }).to_string());
    for key in ["ArrowDown", "ArrowDown"] {
        browser.press(key);
    }
    browser.wait_until("document.getElementById('detail').textContent", |detail| {
        detail.contains("Panic: first\nsecond␛[31m\\u{202e}")
    });
    browser.assert_quiet();
}

#[test]
fn a_recording_of_which_nothing_fits_together_is_shown_as_it_is() {
    let Some(mut browser) = Browser::start() else { return };
    let life = |number: u64, parent: u64| json!({ "ph": "X", "pid": 1, "tid": number, "cat": "life", "name": "x", "ts": 1, "dur": 5, "args": { "kind": {}, "name": [], "parent": parent } });
    let of = |phase: &str, category: &str, number: u64| json!({ "ph": phase, "pid": 1, "tid": number, "cat": category, "name": "x", "ts": 1e9, "dur": 1e15, "id": 7 });
    let mut events = vec![life(1, 2), life(2, 1), life(3, 3), life(3, 9), life(4, 4_000_000_000)];
    for (phase, category) in [
        ("X", "poll"),
        ("s", "wake"),
        ("f", "wake"),
        ("b", "cleanup"),
        ("e", "cleanup"),
        ("i", "cancel"),
        ("i", "report"),
        ("X", "nonsense"),
    ] {
        events.extend([of(phase, category, 1), of(phase, category, 77)]);
    }
    let trace =
        json!({ "traceEvents": events, "otherData": { "xiio_recording": 1, "lost": "many", "note": ["no", "text"] } });
    browser.open(&trace.to_string());
    assert_eq!(browser.evaluate("document.body.dataset.ready"), "yes");
    for key in ["ArrowDown", "ArrowDown", "ArrowRight", "c", "+", "-", "0", "End", "n", "Escape"] {
        browser.press(key);
    }
    browser.assert_quiet();
}

#[test]
fn a_hundred_thousand_events_are_drawn_within_frames() {
    let Some(mut browser) = Browser::start() else { return };
    let recording = record(120_000);
    xiio::run(async {
        task_group!(|tg| {
            for _ in 0..200 {
                tg.spawn(async {
                    for _ in 0..300 {
                        yield_now().await;
                    }
                });
            }
        });
    });
    browser.open(&recording.to_json());
    let summary = browser.text("summary");
    assert!(summary.contains(" · 11") && summary.contains(" events"), "more than 110,000 of them: {summary}");
    let mut slowest: f64 = 0.0;
    for key in ["0", "ArrowRight", "ArrowDown", "+", "+", "ArrowRight", "-", "-"] {
        browser.evaluate("document.body.dataset.frame = ''");
        browser.press(key);
        browser.evaluate("window.dispatchEvent(new Event('resize'))");
        browser.press("ArrowLeft");
        let frame = browser.wait_until("document.body.dataset.frame", |frame| !frame.is_empty());
        slowest = slowest.max(frame.parse().unwrap());
    }
    // A fluid frame has 16; a machine that is busy with something else gets more.
    assert!(slowest < 100.0, "a frame took {slowest} ms");
    eprintln!("the slowest frame took {slowest} ms");
    browser.assert_quiet();
}
