//! Fetches the URLs in its arguments all at once with `reqwest`, a library that insists on tokio.
//!
//! Shows: `compat::with_tokio` gives such a library its runtime, and the rest is as for any future: the fetches borrow
//! one client, a limit of time stands around all of them, the first that fails cancels the others, and so does Ctrl-C.
//!
//! ```text
//! $ cargo run --release --package xiio-examples-others --example reqwest_get http://localhost:8080/ http://localhost:8080/nothing
//! 200 OK: 6 bytes from http://localhost:8080/
//! 404 Not Found: 22 bytes from http://localhost:8080/nothing
//! ```
//!
//! In the order given, once all are there. [`http_get`](http_get.rs) is the larger program, on hyper and without tokio.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use reqwest::{Client, StatusCode};
use xiio::compat::with_tokio;
use xiio::{timeout, try_gather};

/// Fetches URLs with reqwest.
#[derive(Parser)]
struct Arguments {
    /// Seconds that all of it may take
    #[arg(long, default_value_t = 30)]
    time: u64,
    /// What to fetch
    #[arg(required = true)]
    urls: Vec<String>,
}

#[xiio::main(cancel_on(SIGINT, SIGTERM), name = "reqwest_get")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let limit = Duration::from_secs(arguments.time);
    match timeout(limit, with_tokio(fetch_all(&arguments.urls))).await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reqwest_get: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn fetch_all(urls: &[String]) -> anyhow::Result<()> {
    let client = &Client::new();
    let fetches = urls.iter().map(|url| async move { fetch(client, url).await });
    for ((status, n_bytes), url) in try_gather(fetches).await?.into_iter().zip(urls) {
        // Not by `println!`, which panics when nobody reads.
        let _ = writeln!(io::stdout(), "{status}: {n_bytes} bytes from {url}");
    }
    Ok(())
}

async fn fetch(client: &Client, url: &str) -> reqwest::Result<(StatusCode, usize)> {
    let response = client.get(url).send().await?;
    Ok((response.status(), response.bytes().await?.len()))
}
