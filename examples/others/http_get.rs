//! Fetches the URLs on standard input, a few at a time, and says what became of each.
//!
//! Shows: a bounded number of fetches at once with `as_completed`, each with a time limit. A fetch that fails is tried
//! again, also at a status from 502 to 504, after a pause that doubles. Progress is on standard error when that is a terminal. Ctrl-C stops all of it.
//!
//! ```text
//! $ printf '%s\n' http://localhost:8080/ http://localhost:8080/nothing | cargo run --release --package xiio-examples-others --example http_get
//! 200       6  http://localhost:8080/
//! 404      22  http://localhost:8080/nothing
//! ```
//!
//! One line each, in the order in which they end: status, bytes, URL. The exit status is 1 if any was not fetched.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use xiio::compat::HyperStream;
use xiio::io::{BufRead, BufReader, Unchanged};
use xiio::net::TcpStream;
use xiio::{Completed, as_completed, sleep, task_group, timeout};

/// Removes what a terminal shows of the line.
const CLEAR_LINE: &str = "\r\x1b[K";

type AnyError = Box<dyn std::error::Error>;

/// Fetches the URLs on standard input.
#[derive(Parser)]
struct Arguments {
    /// How many at a time
    #[arg(short, long, default_value = "8")]
    jobs: NonZeroUsize,
    /// How often each is tried again
    #[arg(short, long, default_value_t = 3)]
    retries: u32,
    /// Milliseconds that one attempt may take
    #[arg(short, long, default_value_t = 10_000)]
    time: u64,
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), name = "http_get")]
async fn main() -> ExitCode {
    let arguments = &Arguments::parse();
    let urls = match read_urls().await {
        Ok(urls) => urls,
        Err(error) => {
            eprintln!("http_get: standard input: {error}");
            return ExitCode::FAILURE;
        }
    };
    let n_urls = urls.len();
    let shows_progress = io::stderr().is_terminal();
    let show_progress = |text: &str| {
        if shows_progress {
            let _ = write!(io::stderr(), "{text}");
        }
    };
    let fetches = urls.into_iter().map(|url| async move { (fetch_with_retries(&url, arguments).await, url) });
    let show = async |fetched: &mut Completed<'_, _>| {
        let (mut n_done, mut n_failed) = (0, 0);
        while let Some((outcome, url)) = fetched.next().await {
            n_done += 1;
            // Both streams may be one terminal.
            show_progress(CLEAR_LINE);
            match outcome {
                Ok((status, n_bytes)) => say(format_args!("{status} {n_bytes:>7}  {url}")),
                Err(error) => {
                    n_failed += 1;
                    say(format_args!("---       -  {url}: {error}"));
                }
            }
            show_progress(&format!("{n_done} of {n_urls}"));
        }
        show_progress("\n");
        n_failed
    };
    let n_failed = as_completed(fetches).limit(arguments.jobs.get()).consume(show).await;
    if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says it on standard output. Not by `println!`, which panics when nobody reads.
fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// The lines of standard input, without empty ones.
async fn read_urls() -> io::Result<Vec<String>> {
    let mut lines = BufReader::new(Unchanged(io::stdin())).lines();
    let mut urls = Vec::new();
    while let Some(line) = lines.next().await {
        let line = line?;
        let url = line.trim();
        if !url.is_empty() {
            urls.push(url.to_owned());
        }
    }
    Ok(urls)
}

async fn fetch_with_retries(url: &str, arguments: &Arguments) -> Result<(u16, usize), String> {
    let uri = parse(url).map_err(|error| error.to_string())?;
    let mut pause = Duration::from_millis(50);
    for n_left in (0..=arguments.retries).rev() {
        let outcome = timeout(Duration::from_millis(arguments.time), fetch(&uri)).await;
        let problem = match outcome {
            // The server says that it may be better later.
            Ok(Ok((status @ (502..=504), n_bytes))) if n_left == 0 => return Ok((status, n_bytes)),
            Ok(Ok((status @ (502..=504), _))) => format!("status {status}"),
            Ok(Ok(fetched)) => return Ok(fetched),
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        if n_left == 0 {
            return Err(problem);
        }
        sleep(pause).await;
        pause *= 2;
    }
    unreachable!("the last attempt returns")
}

fn parse(url: &str) -> Result<Uri, AnyError> {
    let uri: Uri = url.parse()?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// is fetched here".into());
    }
    Ok(uri)
}

async fn fetch(uri: &Uri) -> Result<(u16, usize), AnyError> {
    let authority = uri.authority().ok_or("there is no host")?.clone();
    // An address of IPv6 is in brackets.
    let address = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((address, authority.port_u16().unwrap_or(80))).await?;
    // The rest of the authority is a name and a password.
    let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = format!("{}{port}", authority.host());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let (mut client, connection) = http1::handshake(HyperStream::new(stream)).await?;
    task_group!(|tg| {
        // Its errors are those of the request as well.
        tg.spawn(async { drop(connection.await) });
        let response = client.send_request(request).await?;
        let status = response.status().as_u16();
        let (mut body, mut n_bytes) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            n_bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        tg.cancel();
        Ok((status, n_bytes))
    })
}
