//! Servers that compute for each request, on one core and on two.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};

use ::xiio::net::TcpStream;
use ::xiio::task_group;

use super::cores::{STEPS_PER_US, compute};
use super::http::answer;
use crate::clock::Stopwatch;
use crate::load;
use crate::peers::{Hyper, Net, Scopes, tokio, xiio};
use crate::row::{Better, Case, Entry, Extras, Family, Metric, Row, entry};
use crate::sample::Sample;
use crate::server::{echo_after, serve, under_load_on_all_cores};

const METRICS: &[Metric] = &[
    Metric { key: "requests", unit: "requests/s", better: Better::Higher },
    Metric { key: "cpu_ns", unit: "ns CPU per request", better: Better::Lower },
];

/// So many connections, and microseconds of computing for a request.
const CASES: &[Case] = &[
    Case::new("0 us", 32, 100_000).and(0),
    Case::new("5 us", 32, 100_000).and(5),
    Case::new("20 us", 32, 60_000).and(20),
];

/// How many workers, or processes, share the work where there are several.
const N_CORES: usize = 2;

const fn of(name: &'static str, measure: fn(&Case) -> Sample) -> Entry {
    Entry { name, family: Family::Xiio, measure, except: &[] }
}

pub const ECHO: Row = Row {
    name: "echo-cores",
    title: "TCP echo server that computes, on two cores",
    note: "64 bytes, 32 connections, each asks again when it has its answer; each request costs so much computing. Server and load \
           generator share the two cores. `xiio` and `tokio-ct` have one thread; `xiio-1` and `xiio-2` take the connections at home and \
           hand them to workers, `xiio-processes` are two processes of one thread, which have half of the connections each. The processor \
           time is the server's, of all threads and processes.",
    metrics: METRICS,
    cases: CASES,
    entries: &[
        of("xiio-processes", |case| in_processes(case, Protocol::Echo)),
        entry!(echo, xiio::Xiio),
        of("xiio-1", |case| on_workers(1, case, Protocol::Echo)),
        of("xiio-2", |case| on_workers(N_CORES, case, Protocol::Echo)),
        entry!(echo, tokio::CurrentThread),
        entry!(echo, tokio::MultiThread),
    ],
    extras: Extras::None,
    is_slow: false,
};

pub const HTTP: Row = Row {
    name: "http-cores",
    title: "HTTP/1.1 through hyper, with computing, on two cores",
    note: "A GET as in `http`, servers and load as in `echo-cores`.",
    metrics: METRICS,
    cases: CASES,
    entries: &[
        of("xiio-processes", |case| in_processes(case, Protocol::Http)),
        entry!(http, xiio::Xiio),
        of("xiio-1", |case| on_workers(1, case, Protocol::Http)),
        of("xiio-2", |case| on_workers(N_CORES, case, Protocol::Http)),
        entry!(http, tokio::CurrentThread),
        entry!(http, tokio::MultiThread),
    ],
    extras: Extras::None,
    is_slow: false,
};

#[derive(Clone, Copy)]
enum Protocol {
    Echo,
    Http,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Echo, Self::Http];

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Http => "http",
        }
    }

    fn question(self) -> &'static load::Question {
        match self {
            Self::Echo => &load::ECHO,
            Self::Http => &load::HTTP,
        }
    }

    /// Answers all requests of a connection, each after computing for so long.
    async fn answer(self, connection: TcpStream, micros: u64) {
        let work = || compute(micros * STEPS_PER_US);
        match self {
            Self::Echo => echo_after(connection, work).await,
            Self::Http => answer::<xiio::Xiio>(connection, work).await,
        }
    }
}

fn echo<R: Net + Scopes>(case: &Case) -> Sample {
    let micros = case.m;
    let answer = move |connection| echo_after(connection, move || compute(micros * STEPS_PER_US));
    under_load_on_all_cores(case, &load::ECHO, |listener| serve::<R, _>(listener, case.n, answer))
}

fn http<R: Hyper + Scopes>(case: &Case) -> Sample {
    let micros = case.m;
    let answer = move |connection| answer::<R>(connection, move || compute(micros * STEPS_PER_US));
    under_load_on_all_cores(case, &load::HTTP, |listener| serve::<R, _>(listener, case.n, answer))
}

fn on_workers(workers: usize, case: &Case, protocol: Protocol) -> Sample {
    under_load_on_all_cores(case, protocol.question(), |listener| {
        ::xiio::run(async {
            let listener = ::xiio::net::TcpListener::try_from(listener).unwrap();
            task_group!(workers = workers, |tg| {
                for _ in 0..case.n {
                    let (connection, _) = listener.accept().await.unwrap();
                    // A socket of a tree stays on its thread, so it crosses as one of `std`.
                    let connection = std::net::TcpStream::try_from(connection).unwrap();
                    tg.workers().spawn(async move || protocol.answer(connection.try_into().unwrap(), case.m).await);
                }
                Stopwatch::start()
            })
        })
    })
}

/// This process and another one have half of the connections each.
fn in_processes(case: &Case, protocol: Protocol) -> Sample {
    let n_here = case.n / N_CORES as u64;
    let mut other = None;
    let sample = under_load_on_all_cores(case, protocol.question(), |listener| {
        other = Some(start_other(&listener, case.n - n_here, case.m, protocol));
        serve_some(&listener, n_here, case.m, protocol)
    });
    let other = other.expect("it was started").wait_with_output().unwrap();
    let other =
        Sample::parse(&String::from_utf8_lossy(&other.stdout)).expect("the other process says what it has used");
    let [cpu_here, n_requests] = ["cpu_ns", "operations"].map(|key| sample.get(key).expect("the clock knows it"));
    let cpu_there = other.get("cpu_ns").expect("the clock knows it") / n_requests;
    let requests = sample.get("requests").expect("the load generator has told");
    Sample::new().with("requests", requests).with("cpu_ns", cpu_here + cpu_there)
}

fn start_other(listener: &TcpListener, n_connections: u64, micros: u64, protocol: Protocol) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["serve", protocol.name(), &n_connections.to_string(), &micros.to_string()])
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run again")
}

/// The other process: `serve <protocol> <connections> <microseconds>`, which has the listener as its standard input.
pub fn serve_as_told(arguments: &[String]) -> ExitCode {
    let [protocol, n_connections, micros] = arguments else {
        panic!("serve <protocol> <connections> <microseconds>");
    };
    let protocol = Protocol::ALL.into_iter().find(|known| known.name() == protocol).expect("a protocol");
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let n_connections = n_connections.parse().expect("a number of connections");
    let clock = serve_some(&listener, n_connections, micros.parse().expect("microseconds"), protocol);
    clock.per_operation(1).print();
    ExitCode::SUCCESS
}

/// Serves so many of the connections that come; the clock runs from when they are there.
fn serve_some(listener: &TcpListener, n_connections: u64, micros: u64, protocol: Protocol) -> Stopwatch {
    // The processes wait for connections in the same queue: blocking, so that each wake-up is one connection.
    let connections: Vec<_> = (0..n_connections).map(|_| listener.accept().unwrap().0).collect();
    ::xiio::run(async move {
        let clock = Stopwatch::start();
        task_group!(|tg| {
            for connection in connections {
                tg.spawn(protocol.answer(connection.try_into().unwrap(), micros));
            }
        });
        clock
    })
}
