//! Runs the services of a Procfile until Ctrl-C, and starts again those that end.
//!
//! Shows: child processes as part of the tree, whose output is read line by line. A `shield` keeps the services going
//! while the program is told to stop, so that they end one after the other, in reverse order. On a terminal all of them hear the
//! Ctrl-C. `race!` stands for "this or the end".
//!
//! ```text
//! $ cat Procfile
//! web: exec python3 -m http.server 8000
//! client: sleep 1; curl -s http://127.0.0.1:8000/ | head -n 3; sleep 3600
//! $ cargo run --release --example procfile
//! web    | started
//! client | started
//! client | <!DOCTYPE HTML>
//! …
//! ^C
//! client | stopped: signal: 2 (SIGINT)
//! web    | Keyboard interrupt received, exiting.
//! web    | stopped: exit status: 0
//! ```
//!
//! A line is `name: command for sh`; `#` begins a comment. A service that ends by itself is started again after a pause, which
//! doubles from `--backoff` seconds up to 30 times that, and is short again once the service has run longer. The names are
//! coloured if stdout is a terminal.

use std::fs;
use std::future::pending;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_lock::Mutex;
use clap::Parser;
use xiio::io::{BufRead, BufReader, Read};
use xiio::process::{Command, ExitStatus, Stdio};
use xiio::{Promise, bracket, join, race, shield, sleep, task_group};

/// Runs the services of a Procfile.
#[derive(Parser)]
struct Arguments {
    /// Where the services are
    #[arg(default_value = "Procfile")]
    file: String,
    /// How many seconds a service may take to stop until it is killed
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    grace: Seconds,
    /// How many seconds to wait before a service is started again for the first time
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    backoff: Seconds,
}

type Seconds = f64;

fn seconds(text: &str) -> Result<Seconds, String> {
    let seconds = text.parse().map_err(|_| "expected a number")?;
    Duration::try_from_secs_f64(seconds).map(|_| seconds).map_err(|error| error.to_string())
}

#[xiio::main(cancel_on(SIGINT, SIGTERM, SIGHUP), name = "procfile")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let services = fs::read_to_string(&arguments.file).map_err(|error| error.to_string());
    match services.and_then(|text| parse(&text, &arguments)) {
        Ok(services) => {
            run_all(&services).await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("procfile: {}: {error}", arguments.file);
            ExitCode::FAILURE
        }
    }
}

/// One line of the Procfile.
struct Service {
    name: String,
    command: String,
    /// What its lines begin with.
    prefix: String,
    grace: Duration,
    backoff: Duration,
    /// Set when it is to end.
    stopping: Promise<()>,
    /// Held by the service whose line is written.
    output: Rc<Mutex<()>>,
}

fn parse(text: &str, arguments: &Arguments) -> Result<Vec<Service>, String> {
    let mut services: Vec<Service> = Vec::new();
    let output = Rc::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, command) = line.split_once(':').unwrap_or_default();
        let (name, command) = (name.trim(), command.trim());
        if name.is_empty() || command.is_empty() {
            return Err(format!("line {}: expected `name: command`, got `{line}`", index + 1));
        }
        if services.iter().any(|service| service.name == name) {
            return Err(format!("line {}: `{name}` is there already", index + 1));
        }
        services.push(Service {
            name: name.into(),
            command: command.into(),
            prefix: String::new(),
            grace: Duration::from_secs_f64(arguments.grace),
            backoff: Duration::from_secs_f64(arguments.backoff),
            stopping: Promise::new(),
            output: Rc::clone(&output),
        });
    }
    if services.is_empty() {
        return Err("there are no services".into());
    }
    set_prefixes(&mut services, io::stdout().is_terminal());
    Ok(services)
}

fn set_prefixes(services: &mut [Service], is_coloured: bool) {
    let width = services.iter().map(|service| service.name.chars().count()).max().unwrap_or(0);
    for (index, service) in services.iter_mut().enumerate() {
        let name = &service.name;
        service.prefix = match is_coloured {
            // The six colours between black and white.
            true => format!("\x1b[{}m{name:width$} |\x1b[0m", 31 + index % 6),
            false => format!("{name:width$} |"),
        };
    }
}

/// Runs the services until this is cancelled; then ends them one by one, the last one first.
async fn run_all(services: &[Service]) {
    let ending = Promise::new();
    task_group!(name = "services", |tg| {
        let spawn = |service| (service, tg.spawn(shield(supervise(service, &ending))));
        let tasks: Vec<(&Service, xiio::Task<()>)> = services.iter().map(spawn).collect();
        let stop = async |tasks: Vec<(&Service, xiio::Task<()>)>| {
            // It is set once, here.
            let _ = ending.set(());
            for (service, task) in tasks.into_iter().rev() {
                // It is set once, here.
                let _ = service.stopping.set(());
                let _ = task.outcome().await;
            }
        };
        bracket(tasks, async |_| pending::<()>().await, stop).await;
    });
}

/// Keeps a service running until all are to end.
async fn supervise(service: &Service, ending: &Promise<()>) {
    let mut pause = service.backoff;
    while !ending.is_set() {
        service.say("started").await;
        if service.stopping.is_set() {
            // Nobody has read that.
            break;
        }
        let started = Instant::now();
        let end = run_once(service).await;
        let how = end.map_or_else(|error| format!("`sh`: {error}"), |status| status.to_string());
        if ending.is_set() {
            return service.say(&format!("stopped: {how}")).await;
        }
        if started.elapsed() > pause {
            pause = service.backoff;
        }
        service.say(&format!("ended: {how}; again in {pause:?}")).await;
        race!(sleep(pause), ending.wait());
        pause = pause.saturating_mul(2).min(service.backoff.saturating_mul(30));
    }
    service.say("stopped").await;
}

/// Runs a service to its end, or until it is to stop. What it has left behind ends with it, and what it says on its way out
/// is still read.
async fn run_once(service: &Service) -> io::Result<ExitStatus> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(&service.command).grace(service.grace);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let usage = async |child: &mut xiio::process::Child| {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = Promise::new();
        let end = async {
            race!(_ = child.wait_exited() => {}, () = service.stopping.wait() => {});
            let status = child.stop().await;
            // It is set once, here.
            let _ = ended.set(());
            status
        };
        let relays = async { join!(service.relay(stdout), service.relay(stderr)) };
        // A daemon that has left the group may hold the pipes for ever.
        let too_late = async {
            ended.wait().await;
            sleep(service.grace).await;
        };
        let (status, ()) = join!(end, async { race!(_ = relays => {}, () = too_late => {}) });
        status
    };
    command.scope(usage).await?
}

impl Service {
    /// Prints what a service says, line by line.
    async fn relay(&self, pipe: Option<impl Read>) {
        let Some(pipe) = pipe else { return };
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) => self.say(String::from_utf8_lossy(&line).trim_end()).await,
                // A service that nobody reads could not go on, so a line that is too long is said in pieces.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.say(&String::from_utf8_lossy(reader.buffer())).await;
                    reader.consume(reader.buffer().len());
                }
                Err(error) => return self.say(&format!("cannot be read any more: {error}")).await,
            }
        }
    }

    /// Prints a line. The thread does not wait for a reader that does not read, and nobody does once the service is to stop.
    async fn say(&self, text: &str) {
        let write = async {
            let _turn = self.output.lock().await;
            // Whoever reads us may have gone; the services run on.
            let _ = xiio::write_all(io::stdout(), format!("{} {text}\n", self.prefix).as_bytes()).await;
        };
        let too_late = async {
            self.stopping.wait().await;
            sleep(self.grace).await;
        };
        race!(() = write => {}, () = too_late => {});
    }
}
