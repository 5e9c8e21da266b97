//! The load generator: a process of its own, mostly on core 1, in one raw epoll loop. It ends after so many requests, or after
//! [`LONGEST`], and then closes its connections.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::floors::descriptors::{Epoll, Events, write_few};
use crate::pin::pin_to_core;

const LONGEST: Duration = Duration::from_secs(20);

/// What is asked, again and again. An answer comes in one piece on loopback, and is known by its end.
pub struct Question {
    name: &'static str,
    message: &'static [u8],
    end_of_answer: &'static [u8],
}

pub const ECHO: Question = Question { name: "echo", message: &[b'x'; 64], end_of_answer: &[b'x'; 64] };

pub const HTTP: Question = Question {
    name: "http",
    message: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    end_of_answer: b"\r\n\r\nHello, world!",
};

/// The load generator as the server sees it.
pub struct Load(Child);

impl Load {
    /// Starts the process, on one core or wherever there is room; it connects to `listener`.
    pub fn start(
        core: Option<usize>,
        listener: &TcpListener,
        question: &Question,
        n_connections: u64,
        n_requests: u64,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let arguments =
            [question.name.to_owned(), address.to_string(), n_connections.to_string(), n_requests.to_string()];
        let child = Command::new(std::env::current_exe().unwrap())
            .arg("load")
            .args(arguments)
            .args(core.map(|core| core.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        Load(child.expect("this program can be run again"))
    }

    /// Waits for the process and returns the number of requests that were answered.
    pub fn finish(mut self) -> u64 {
        let mut output = String::new();
        let mut stdout = self.0.stdout.take().expect("it is a pipe");
        stdout.read_to_string(&mut output).unwrap();
        assert!(self.0.wait().unwrap().success(), "the load generator failed");
        output.trim().parse().expect("it prints the number of requests")
    }

    /// Ends the process before its time.
    pub fn stop(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process: `load <question> <address> <connections> <requests> [core]`.
pub fn generate_as_told(arguments: &[String]) -> ExitCode {
    let [question, address, n_connections, n_requests, core @ ..] = arguments else {
        panic!("load <question> <address> <connections> <requests> [core]");
    };
    if let Some(core) = core.first() {
        pin_to_core(core.parse().expect("a number of a core"));
    }
    let question = [ECHO, HTTP].into_iter().find(|known| known.name == question).expect("a question");
    let address = address.parse().expect("an address");
    let n_connections = n_connections.parse().expect("a number of connections");
    generate(&question, address, n_connections, n_requests.parse().expect("a number of requests"));
    ExitCode::SUCCESS
}

fn generate(question: &Question, address: SocketAddr, n_connections: u64, n_requests: u64) {
    let (epoll, mut events) = (Epoll::new(), Events::new());
    let connect = |key| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        epoll.add(&stream, key);
        stream
    };
    let streams: Vec<_> = (0..n_connections).map(connect).collect();
    let began = Instant::now();
    let mut n_asked = 0;
    for stream in &streams {
        write_few(stream, question.message);
        n_asked += 1;
    }
    let mut n_answered = 0;
    let mut buffer = [0; 1024];
    while n_answered < n_asked {
        let is_late = began.elapsed() > LONGEST;
        for key in epoll.wait(&mut events) {
            let stream = &streams[key as usize];
            match (&*stream).read(&mut buffer) {
                Ok(n) => {
                    assert!(buffer[..n].ends_with(question.end_of_answer), "an answer comes in one piece on loopback")
                }
                // The server has what it wanted and is gone.
                Err(_) => return,
            }
            n_answered += 1;
            if n_asked < n_requests && !is_late {
                write_few(stream, question.message);
                n_asked += 1;
            }
        }
    }
    drop(streams);
    println!("{n_answered}");
}
