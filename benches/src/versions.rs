//! What was measured, and where.

use std::fmt::Write;
use std::fs;
use std::process::Command;

const LOCK: &str = include_str!("../Cargo.lock");

/// The crates of which the table names the version.
const NAMED: &[&str] = &[
    "tokio",
    "mio",
    "async-executor",
    "async-io",
    "async-process",
    "blocking",
    "futures",
    "futures-buffered",
    "futures-concurrency",
    "moro",
    "monoio",
    "glommio",
    "compio",
    "polling",
    "hyper",
    "libc",
];

/// The version of a crate in the lock file; of several, the newest.
pub fn version_of(name: &str) -> Option<&'static str> {
    let header = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = LOCK.rsplit_once(&header)?;
    rest.split('"').next()
}

pub fn versions_line() -> String {
    let mut line = String::new();
    for name in NAMED {
        if let Some(version) = version_of(name) {
            let comma = if line.is_empty() { "" } else { ", " };
            let _ = write!(line, "{comma}{name} {version}");
        }
    }
    line
}

/// Processor, cores, kernel, compiler.
pub fn machine_line() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let n_cores = std::thread::available_parallelism().map_or(0, usize::from);
    let compiler = Command::new("rustc").arg("--version").output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{}, {n_cores} cores, Linux {}, {}, release with thin LTO and one codegen unit, system allocator",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        compiler.unwrap_or_else(|_| "unknown rustc".to_owned()),
    )
}
