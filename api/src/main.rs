//! Lists the public interface of xiio, with all features, in `xiio.txt` beside this workspace: one item a line, so that
//! a change of the interface is seen in a diff.
//!
//! ```text
//! $ cargo run --manifest-path api/Cargo.toml            # renews the listing
//! $ cargo run --manifest-path api/Cargo.toml -- --check # fails if it is stale
//! ```
//!
//! What derives and blankets give is left out. Of what the compiler finds out by itself, `Send`, `Sync` and `Unpin` are
//! listed: they are part of the interface, and lost by accident.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// What the compiler implements as well, and nobody asks for.
const MINOR_TRAITS: [&str; 4] =
    ["marker::Freeze for", "marker::UnsafeUnpin for", "unwind_safe::RefUnwindSafe for", "unwind_safe::UnwindSafe for"];

type AnyError = Box<dyn Error>;

fn main() -> Result<ExitCode, AnyError> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (listing, now) = (home.join("xiio.txt"), list(home)?);
    match std::env::args().nth(1).as_deref() {
        None => fs::write(listing, now)?,
        Some("--check") => {
            let then = fs::read_to_string(&listing)?;
            if then != now {
                print_difference(&then, &now);
                eprintln!("api/xiio.txt is stale; renew it with `cargo run --manifest-path api/Cargo.toml`");
                return Ok(ExitCode::FAILURE);
            }
        }
        Some(other) => return Err(format!("`{other}` is no option; there is `--check`").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The interface as it is now, a line for each item.
fn list(home: &Path) -> Result<String, AnyError> {
    let target = home.join("target");
    let status = Command::new(env!("CARGO"))
        .args(["rustdoc", "--locked", "--quiet", "--package", "xiio", "--all-features", "--target-dir"])
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format", "json"])
        .current_dir(home.join(".."))
        // The stable toolchain writes JSON as well, if it is told that it may.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()?;
    if !status.success() {
        return Err("rustdoc does not describe xiio".into());
    }
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/xiio.json"))
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| format!("{error}; another compiler needs another `public-api` in api/Cargo.toml"))?;
    let items = api.items().map(|item| format!("{item}\n"));
    Ok(items.filter(|item| !MINOR_TRAITS.iter().any(|minor| item.contains(minor))).collect())
}

/// Prints the lines that only one of the two has.
fn print_difference(then: &str, now: &str) {
    for (sign, of, other) in [('-', then, now), ('+', now, then)] {
        let gone = of.lines().filter(|line| !other.lines().any(|there| there == *line));
        gone.for_each(|line| eprintln!("{sign} {line}"));
    }
}
