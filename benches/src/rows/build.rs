//! Row 10: what a program that prints a line after a sleep costs to build, and how large it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::row::{Better, Case, Entry, Extras, Family, Metric, Row};
use crate::sample::Sample;
use crate::versions::version_of;

pub const ROW: Row = Row {
    name: "build",
    title: "Cold build of a small program",
    note: "`cargo build --release -j2` into an empty target directory, everything downloaded before, default profile; \
           then the stripped size.",
    metrics: &[
        Metric { key: "seconds", unit: "s", better: Better::Lower },
        Metric { key: "bytes", unit: "bytes stripped", better: Better::Lower },
    ],
    cases: &[Case::new("hello", 1, 1)],
    entries: &[
        entry("std", Family::Floor, |_| build("std", &[], STD)),
        entry("polling", Family::Floor, |_| build("polling", &[("polling", "")], POLLING)),
        entry("xiio", Family::Xiio, |_| build_with("xiio", XIIO_DEPENDENCY, XIIO)),
        entry("tokio", Family::Tokio, |_| build("tokio", &[("tokio", TOKIO_FEATURES)], TOKIO)),
        entry("smol", Family::Peer, |_| build("smol", SMOL_CRATES, SMOL)),
    ],
    extras: Extras::None,
    is_slow: true,
};

const fn entry(name: &'static str, family: Family, measure: fn(&Case) -> Sample) -> Entry {
    Entry { name, family, measure, except: &[] }
}

const STD: &str = r#"
fn main() {
    std::thread::sleep(std::time::Duration::from_millis(1));
    println!("hello");
}
"#;

const XIIO_DEPENDENCY: &str = concat!("xiio = { path = \"", env!("CARGO_MANIFEST_DIR"), "/../xiio\" }\n");
const XIIO: &str = r#"
#[xiio::main]
async fn main() {
    xiio::sleep(std::time::Duration::from_millis(1)).await;
    println!("hello");
}
"#;

const POLLING: &str = r#"
fn main() {
    let poller = polling::Poller::new().unwrap();
    let mut events = polling::Events::new();
    poller.wait(&mut events, Some(std::time::Duration::from_millis(1))).unwrap();
    println!("hello");
}
"#;

const TOKIO_FEATURES: &str = r#""rt", "time", "net", "process", "signal", "macros""#;
const TOKIO: &str = r#"
#[tokio::main(flavor = "current_thread")]
async fn main() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    println!("hello");
}
"#;

const SMOL_CRATES: &[(&str, &str)] =
    &[("async-executor", ""), ("async-io", ""), ("async-process", ""), ("blocking", "")];
const SMOL: &str = r#"
fn main() {
    async_io::block_on(async {
        async_io::Timer::after(std::time::Duration::from_millis(1)).await;
        println!("hello");
    });
}
"#;

/// Writes a program with the given dependencies (and their features) and builds it.
fn build(name: &str, dependencies: &[(&str, &str)], main: &str) -> Sample {
    let with_version = |&(name, features): &(&str, &str)| {
        let version = version_of(name).expect("the benches depend on it too");
        format!("{name} = {{ version = \"={version}\", features = [{features}] }}\n")
    };
    build_with(name, &dependencies.iter().map(with_version).collect::<String>(), main)
}

fn build_with(name: &str, dependencies: &str, main: &str) -> Sample {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cold").join(name);
    fs::create_dir_all(directory.join("src")).unwrap();
    let package = "[package]\nname = \"hello\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let manifest = format!("{package}\n[workspace]\n\n[dependencies]\n{dependencies}");
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    fs::write(directory.join("src/main.rs"), main).unwrap();
    cargo(&directory, &["fetch"]);
    let _ = fs::remove_dir_all(directory.join("target"));

    let began = Instant::now();
    cargo(&directory, &["build", "--release", "-j2", "--offline"]);
    let seconds = began.elapsed().as_secs_f64();

    let bytes = stripped_size(&directory.join("target/release/hello"));
    Sample::new().with("seconds", seconds).with("bytes", bytes as f64)
}

fn cargo(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let command = command.args(arguments).current_dir(directory).env_remove("CARGO_TARGET_DIR");
    let output = command.stdin(Stdio::null()).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn stripped_size(program: &PathBuf) -> u64 {
    let stripped = program.with_extension("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
    assert!(status.expect("strip can be run").success());
    fs::metadata(stripped).unwrap().len()
}
