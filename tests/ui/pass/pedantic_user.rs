#![deny(
    warnings,
    unsafe_code,
    clippy::pedantic,
    rust_2018_idioms,
    unreachable_pub
)]

use std::time::Duration;

use xiio::{task_group, try_task_group};

async fn served(n_requests: u32) -> Result<u32, std::num::ParseIntError> {
    let mut served = 0;
    task_group!(|_tg| loop {
        let parsed: u32 = "1".parse()?;
        served += parsed;
        if served == n_requests {
            return Ok(served);
        }
    });
}

#[xiio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = ["Ada", "Grace"];
    for name in &names {
        task_group!(name = "greeting", timeout = Duration::from_secs(9), |tg| {
            if name.is_empty() {
                continue;
            }
            tg.spawn(async move { assert!(name.len() < 9) });
            tg.spawn(async { tg.cancel() });
        })?;
    }
    try_task_group!(|tg| {
        tg.spawn(async {
            served(3).await?;
            Ok(())
        });
    })?;
    Ok(())
}
