//! What a failed test leaves: a page with what its tasks have done.

use std::any::type_name_of_val;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::recording::{self, Recorder};

/// So many events of a test are kept.
const CAPACITY: usize = 1 << 15;

/// The name of a file has no more bytes, but for the hash and the ending.
const MAX_NAME: usize = 120;

/// Runs one try of a test, which is recorded.
pub(super) fn recorded<T>(run: impl FnOnce() -> T) -> (T, Arc<Recorder>) {
    let recorder = Recorder::new(CAPACITY);
    let on = recording::begin(Arc::clone(&recorder));
    let value = run();
    drop(on);
    (value, recorder)
}

/// Writes the page of a try that has failed, and prints where. `body` is what the test runs, which tells its name; `fault` is on the page.
pub(super) fn leave<F>(recorder: &Recorder, body: &F, fault: &str) {
    let page = recording::page(&recorder.trace(Some(fault)));
    let name = name_of(type_name_of_val(body), &recording::program_and_hash().1);
    let file = target().join("xiio").join(name + ".html");
    match write(&file, &page) {
        Ok(()) => eprintln!("what the tasks of this test have done is in {}", file.display()),
        Err(error) => eprintln!("cannot write what the tasks of this test have done to {}: {error}", file.display()),
    }
}

/// Whoever looks meanwhile finds a whole page, also where two tests of this process have one name.
fn write(file: &Path, page: &str) -> io::Result<()> {
    static N_WRITTEN: AtomicUsize = AtomicUsize::new(0);
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    let number = N_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let unfinished = file.with_extension(format!("{}-{number}", process::id()));
    fs::write(&unfinished, page)?;
    fs::rename(unfinished, file)
}

/// The directory in which Cargo builds: it has this program in `PROFILE/deps`.
fn target() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let deps = program.parent().filter(|directory| directory.ends_with("deps"));
    deps.and_then(|deps| deps.ancestors().nth(2)).map_or_else(|| "target".into(), Path::to_path_buf)
}

/// `crate::module::test::{{closure}}` to `crate.module.test`, with what tells the program from others of its name. Of a long path the end tells more.
fn name_of(body: &str, hash: &str) -> String {
    let path = body.split("::{{closure}}").next().unwrap_or(body).replace("::", ".");
    let end = path.char_indices().skip_while(|(at, _)| path.len() - at > MAX_NAME);
    let kept = end.map(|(_, c)| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' });
    kept.chain((!hash.is_empty()).then_some('-')).chain(hash.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_function_and_leads_nowhere_else() {
        assert_eq!(name_of("shop::tests::orders::{{closure}}::{{closure}}", ""), "shop.tests.orders");
        assert_eq!(name_of("<shop::Body<'_> as core::Fn>::call", "1f"), "_shop.Body_____as_core.Fn_.call-1f");
        assert_eq!(name_of("../etc/passwd", ""), ".._etc_passwd");
        let deep = ["shop"; 100].join("::");
        assert!(name_of(&format!("{deep}::orders"), "").ends_with(".orders"));
        let wide = "ラ".repeat(100);
        assert!((MAX_NAME - 2..=MAX_NAME).contains(&name_of(&format!("{wide}::orders"), "").len()));
    }
}
