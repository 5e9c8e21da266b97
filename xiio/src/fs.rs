//! Files, on threads: the functions of [`std::fs`] that people reach for.
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

use std::fs::{DirEntry, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use crate::thread::in_thread;

#[track_caller]
fn on_thread<F, T>(operation: F) -> impl Future<Output = io::Result<T>>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    in_thread(operation).or_refused()
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
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let name = xiio::fs::read("/proc/self/comm").await?;
/// assert!(!name.is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> impl Future<Output = io::Result<Vec<u8>>> {
    let path = owned(path);
    on_thread(move || std::fs::read(path))
}

/// Reads a whole file of UTF-8, as [`std::fs::read_to_string`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::read_to_string("/proc/self/status").await?.contains("Threads:"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read_to_string(path: impl AsRef<Path>) -> impl Future<Output = io::Result<String>> {
    let path = owned(path);
    on_thread(move || std::fs::read_to_string(path))
}

/// Writes a whole file, made or emptied before, as [`std::fs::write`].
///
/// Takes the contents by value, so that a `Vec` or a `String` need not be copied.
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let file = std::env::temp_dir().join(format!("xiio-fs-write-{}", std::process::id()));
/// xiio::fs::write(&file, "hello").await?;
/// assert_eq!(xiio::fs::read(&file).await?, b"hello");
/// xiio::fs::remove_file(&file).await?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn write(path: impl AsRef<Path>, contents: impl Into<Vec<u8>>) -> impl Future<Output = io::Result<()>> {
    let (path, contents) = (owned(path), contents.into());
    on_thread(move || std::fs::write(path, contents))
}

/// Copies a file and its permissions, as [`std::fs::copy`]; gives the number of bytes.
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
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
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> impl Future<Output = io::Result<u64>> {
    let (from, to) = (owned(from), owned(to));
    on_thread(move || std::fs::copy(from, to))
}

/// Renames a file or a directory, as [`std::fs::rename`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
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
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let (from, to) = (owned(from), owned(to));
    on_thread(move || std::fs::rename(from, to))
}

/// Removes a file, as [`std::fs::remove_file`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
#[track_caller]
pub fn remove_file(path: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::remove_file(path))
}

/// Makes a directory, as [`std::fs::create_dir`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
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
pub fn create_dir(path: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::create_dir(path))
}

/// Makes a directory and those above it, as [`std::fs::create_dir_all`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
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
pub fn create_dir_all(path: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::create_dir_all(path))
}

/// Removes an empty directory, as [`std::fs::remove_dir`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
#[track_caller]
pub fn remove_dir(path: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::remove_dir(path))
}

/// Removes a directory and all that is in it, as [`std::fs::remove_dir_all`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
#[track_caller]
pub fn remove_dir_all(path: impl AsRef<Path>) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::remove_dir_all(path))
}

/// The entries of a directory, in no particular order; all at once, where [`std::fs::read_dir`] gives an iterator.
///
/// # Errors
/// Those of its namesake, and the first that its iterator gives.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// let entries = xiio::fs::read_dir("/proc/self/task").await?;
/// assert!(!entries.is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn read_dir(path: impl AsRef<Path>) -> impl Future<Output = io::Result<Vec<DirEntry>>> {
    let path = owned(path);
    on_thread(move || std::fs::read_dir(path)?.collect())
}

/// What a path leads to, as [`std::fs::metadata`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::metadata("/").await?.is_dir());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn metadata(path: impl AsRef<Path>) -> impl Future<Output = io::Result<Metadata>> {
    let path = owned(path);
    on_thread(move || std::fs::metadata(path))
}

/// What is at a path, links not followed, as [`std::fs::symlink_metadata`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(xiio::fs::symlink_metadata("/proc/self").await?.is_symlink());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn symlink_metadata(path: impl AsRef<Path>) -> impl Future<Output = io::Result<Metadata>> {
    let path = owned(path);
    on_thread(move || std::fs::symlink_metadata(path))
}

/// Whether there is something at the end of a path, as [`std::fs::exists`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert!(!xiio::fs::exists("/no/such/file").await?);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn exists(path: impl AsRef<Path>) -> impl Future<Output = io::Result<bool>> {
    let path = owned(path);
    on_thread(move || std::fs::exists(path))
}

/// The absolute path without links, as [`std::fs::canonicalize`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
///
/// # Examples
/// ```
/// # xiio::run(async {
/// assert_eq!(xiio::fs::canonicalize("/usr/../usr").await?, std::path::Path::new("/usr"));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[track_caller]
pub fn canonicalize(path: impl AsRef<Path>) -> impl Future<Output = io::Result<PathBuf>> {
    let path = owned(path);
    on_thread(move || std::fs::canonicalize(path))
}

/// Changes the permissions of a file, as [`std::fs::set_permissions`].
///
/// # Errors
/// Those of its namesake.
///
/// # Cancellation
/// See the [room](self).
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
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> impl Future<Output = io::Result<()>> {
    let path = owned(path);
    on_thread(move || std::fs::set_permissions(path, permissions))
}
