//! What a process holds that a test may leave behind.

use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long a child that was dropped, and so killed, may take until it is reaped; and the threads of workers until they end.
const UNTIL_REAPED: Duration = Duration::from_secs(2);

/// The open files and the children of this process, to be compared before and after.
///
/// Both belong to the whole process, so other tests that run at the same time show in them. They count only where no
/// other test runs (`cargo test -- --test-threads=1`, `RUST_TEST_THREADS=1`, or a runner with a process for each
/// test).
///
/// # Examples
/// ```
/// let before = xiio::testing::Resources::now();
/// xiio::run(async {});
/// assert_eq!(before.check_unchanged(), Ok(()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    n_files: Option<usize>,
    n_children: Option<usize>,
}

impl Resources {
    /// As they are now. On a system without `/proc` nothing is known, and nothing compared.
    #[must_use]
    pub fn now() -> Self {
        if !is_alone() {
            return Self { n_files: None, n_children: None };
        }
        Self { n_files: count_files(), n_children: count_children() }
    }

    /// Whether there are no more of them. A child that was dropped is waited for, as it is reaped a little later,
    /// and so are the descriptors of workers whose group has ended. Of those that were there before, some may be gone.
    ///
    /// # Errors
    /// Says what there is more of.
    pub fn check_unchanged(&self) -> Result<(), String> {
        let start = Instant::now();
        let mut now = Self::now();
        let is_more = |now: &Self| now.n_children > self.n_children || now.n_files > self.n_files;
        while is_more(&now) && start.elapsed() < UNTIL_REAPED {
            thread::sleep(Duration::from_millis(1));
            now = Self::now();
        }
        if !is_more(&now) {
            return Ok(());
        }
        Err(format!(
            "open files: {:?} before, {:?} now; children: {:?} before, {:?} now",
            self.n_files, now.n_files, self.n_children, now.n_children
        ))
    }
}

/// Whether no other test runs in this process.
fn is_alone() -> bool {
    let arguments: Vec<String> = env::args().collect();
    let has_one_thread = arguments.iter().any(|argument| argument == "--test-threads=1")
        || arguments.windows(2).any(|pair| pair == ["--test-threads", "1"]);
    has_one_thread || env::var("RUST_TEST_THREADS").is_ok_and(|n| n == "1") || env::var_os("NEXTEST").is_some()
}

fn count_files() -> Option<usize> {
    // The listing itself holds a file open, each time the same.
    fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

/// Children, zombies included, of all threads.
fn count_children() -> Option<usize> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    Some(lists.map(|list| list.split_whitespace().count()).sum())
}
