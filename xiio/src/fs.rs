//! Files, on threads: the functions of [`std::fs`], and `symlink`. What gives an open file is not here: see below.
//!
//! The kernel does not say when a file is "ready"; a read from a slow disk stops the thread. So each function here is one
//! [`in_thread`](crate::in_thread()) job that calls its namesake in `std`, with the same value and the same errors. If the
//! system gives no thread, and none runs, that is an error as well. For anything else (an open file, a loop over many small
//! ones) write one job that does it all: that is one hand-over instead of many.
//!
//! # Cancellation
//! An operation that has begun runs to its end, and whoever cancels waits for it. An error that it ends with is
//! [reported](crate::inspect::ReportKind::ErrorUnheard). It leaves nothing half done that `std` would not. An operation that waits for a free thread never begins.
//!
//! So a limit of time does not end a wait for something that may never come: a FIFO that nobody opens for writing, a file
//! system over a network that has gone. For these use a job that can be left behind, see
//! [`abandon_on_cancel`](crate::thread::InThread::abandon_on_cancel).
//!
//! # Examples
//! ```
//! let dir = std::env::temp_dir().join(format!("xiio-fs-{}", std::process::id()));
//! xiio::run(async {
//!     xiio::fs::create_dir_all(&dir).await?;
//!     xiio::fs::write(dir.join("a"), "hello").await?;
//!     assert_eq!(xiio::fs::read_to_string(dir.join("a")).await?, "hello");
//!     let entries = xiio::fs::read_dir(&dir).await?;
//!     assert_eq!(entries[0].file_name(), "a");
//!     xiio::fs::remove_dir_all(&dir).await
//! })
//! # ?; std::io::Result::Ok(())
//! ```
//!
//! # Implementation
//! The pool that the whole process shares. Paths and contents are copied once, at the call, as a job cannot borrow. No function is
//! an `async fn`: the place that a tree and a report show is that of the call.

use std::fmt;
use std::fs::{DirEntry, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::thread::{InThread, in_thread};

/// The future of a function of this module. It has copied its arguments, so a path need not live as long as the future.
///
/// # Examples
/// ```
/// let names = ["/proc/self/comm", "/proc/self/status"];
/// let lengths = xiio::run(async {
///     xiio::task_group!(|tg| {
///         let tasks = names.map(|name| {
///             let path = std::path::PathBuf::from(name);
///             tg.spawn(xiio::fs::read(&path))
///         });
///         let mut lengths = Vec::new();
///         for task in tasks {
///             lengths.push(task.await?.len());
///         }
///         std::io::Result::Ok(lengths)
///     })
/// })?;
/// assert!(lengths[0] < lengths[1]);
/// # std::io::Result::Ok(())
/// ```
#[must_use = "nothing is done before it is awaited"]
pub struct Operation<T> {
    /// In a box, as the type of a closure has no name. Beside the hand-over to a thread that costs nothing.
    job: InThread<Box<dyn FnOnce() -> io::Result<T> + Send>, io::Result<T>>,
}

impl<T: Send + 'static> Future for Operation<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.job.poll_or_refused(cx)
    }
}

impl<T> fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.job).finish()
    }
}

#[track_caller]
fn on_thread<T: Send + 'static>(operation: impl FnOnce() -> io::Result<T> + Send + 'static) -> Operation<T> {
    Operation { job: in_thread(Box::new(operation)) }
}

fn owned(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().to_owned()
}

/// Reads a whole file, as [`std::fs::read`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let name = xiio::fs::read("/proc/self/comm").await?;
/// assert!(!name.is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> Operation<Vec<u8>> {
    let path = owned(path);
    on_thread(move || std::fs::read(path))
}

/// Reads a whole file of UTF-8, as [`std::fs::read_to_string`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::read_to_string("/proc/self/status").await?.contains("Threads:"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read_to_string(path: impl AsRef<Path>) -> Operation<String> {
    let path = owned(path);
    on_thread(move || std::fs::read_to_string(path))
}

/// Writes a whole file, made or emptied before, as [`std::fs::write`].
///
/// The contents are copied at the call.
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-write-{}", std::process::id()));
/// let text = String::from("hello");
/// xiio::fs::write(&file, &text).await?;
/// assert_eq!(xiio::fs::read(&file).await?, b"hello");
/// xiio::fs::remove_file(&file).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Operation<()> {
    let (path, contents) = (owned(path), contents.as_ref().to_vec());
    on_thread(move || std::fs::write(path, contents))
}

/// Copies a file and its permissions, as [`std::fs::copy`]; gives the number of bytes.
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-copy-{}", std::process::id()));
/// assert!(xiio::fs::copy("/proc/self/status", &file).await? > 0);
/// xiio::fs::remove_file(&file).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation<u64> {
    let (from, to) = (owned(from), owned(to));
    on_thread(move || std::fs::copy(from, to))
}

/// Renames a file or a directory, as [`std::fs::rename`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-rename-{}", std::process::id()));
/// let renamed = file.with_extension("done");
/// xiio::fs::write(&file, "hello").await?;
/// xiio::fs::rename(&file, &renamed).await?;
/// assert!(!xiio::fs::exists(&file).await?);
/// xiio::fs::remove_file(&renamed).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation<()> {
    let (from, to) = (owned(from), owned(to));
    on_thread(move || std::fs::rename(from, to))
}

/// Gives a file a second name, as [`std::fs::hard_link`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-link-{}", std::process::id()));
/// let link = file.with_extension("link");
/// xiio::fs::write(&file, "hello").await?;
/// xiio::fs::hard_link(&file, &link).await?;
/// xiio::fs::remove_file(&file).await?;
/// assert_eq!(xiio::fs::read(&link).await?, b"hello");
/// xiio::fs::remove_file(&link).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Operation<()> {
    let (original, link) = (owned(original), owned(link));
    on_thread(move || std::fs::hard_link(original, link))
}

/// Makes a symbolic link, as [`std::os::unix::fs::symlink`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let link = std::env::temp_dir().join(format!("xiio-fs-symlink-{}", std::process::id()));
/// xiio::fs::symlink("/no/such/file", &link).await?;
/// assert_eq!(xiio::fs::read_link(&link).await?, std::path::Path::new("/no/such/file"));
/// xiio::fs::remove_file(&link).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Operation<()> {
    let (original, link) = (owned(original), owned(link));
    on_thread(move || std::os::unix::fs::symlink(original, link))
}

/// Where a symbolic link leads to, as [`std::fs::read_link`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::read_link("/proc/self").await?.is_relative());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read_link(path: impl AsRef<Path>) -> Operation<PathBuf> {
    let path = owned(path);
    on_thread(move || std::fs::read_link(path))
}

/// Removes a file, as [`std::fs::remove_file`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
#[track_caller]
pub fn remove_file(path: impl AsRef<Path>) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::remove_file(path))
}

/// Makes a directory, as [`std::fs::create_dir`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let dir = std::env::temp_dir().join(format!("xiio-fs-create-{}", std::process::id()));
/// xiio::fs::create_dir(&dir).await?;
/// assert!(xiio::fs::create_dir(&dir).await.is_err());
/// xiio::fs::remove_dir(&dir).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn create_dir(path: impl AsRef<Path>) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::create_dir(path))
}

/// Makes a directory and those above it, as [`std::fs::create_dir_all`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let dir = std::env::temp_dir().join(format!("xiio-fs-create-all-{}", std::process::id()));
/// xiio::fs::create_dir_all(dir.join("a/b")).await?;
/// xiio::fs::create_dir_all(dir.join("a/b")).await?;
/// xiio::fs::remove_dir_all(&dir).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn create_dir_all(path: impl AsRef<Path>) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::create_dir_all(path))
}

/// Removes an empty directory, as [`std::fs::remove_dir`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
#[track_caller]
pub fn remove_dir(path: impl AsRef<Path>) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::remove_dir(path))
}

/// Removes a directory and all that is in it, as [`std::fs::remove_dir_all`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
#[track_caller]
pub fn remove_dir_all(path: impl AsRef<Path>) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::remove_dir_all(path))
}

/// The entries of a directory, in no particular order; all at once, where [`std::fs::read_dir`] gives an iterator.
///
/// # Errors
/// Those of its namesake, and the first that its iterator gives.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let entries = xiio::fs::read_dir("/proc/self/task").await?;
/// assert!(!entries.is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read_dir(path: impl AsRef<Path>) -> Operation<Vec<DirEntry>> {
    let path = owned(path);
    on_thread(move || std::fs::read_dir(path)?.collect())
}

/// What a path leads to, as [`std::fs::metadata`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::metadata("/").await?.is_dir());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn metadata(path: impl AsRef<Path>) -> Operation<Metadata> {
    let path = owned(path);
    on_thread(move || std::fs::metadata(path))
}

/// What is at a path, links not followed, as [`std::fs::symlink_metadata`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::symlink_metadata("/proc/self").await?.is_symlink());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn symlink_metadata(path: impl AsRef<Path>) -> Operation<Metadata> {
    let path = owned(path);
    on_thread(move || std::fs::symlink_metadata(path))
}

/// Whether there is something at the end of a path, as [`std::fs::exists`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(!xiio::fs::exists("/no/such/file").await?);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn exists(path: impl AsRef<Path>) -> Operation<bool> {
    let path = owned(path);
    on_thread(move || std::fs::exists(path))
}

/// The absolute path without links, as [`std::fs::canonicalize`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert_eq!(xiio::fs::canonicalize("/usr/../usr").await?, std::path::Path::new("/usr"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn canonicalize(path: impl AsRef<Path>) -> Operation<PathBuf> {
    let path = owned(path);
    on_thread(move || std::fs::canonicalize(path))
}

/// Changes the permissions of a file, as [`std::fs::set_permissions`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [module](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-permissions-{}", std::process::id()));
/// xiio::fs::write(&file, "hello").await?;
/// let mut permissions = xiio::fs::metadata(&file).await?.permissions();
/// permissions.set_readonly(true);
/// xiio::fs::set_permissions(&file, permissions).await?;
/// assert!(xiio::fs::metadata(&file).await?.permissions().readonly());
/// xiio::fs::remove_file(&file).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> Operation<()> {
    let path = owned(path);
    on_thread(move || std::fs::set_permissions(path, permissions))
}
