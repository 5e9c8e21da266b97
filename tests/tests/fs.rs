//! Files on threads: each function gives what its namesake in `std::fs` gives.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use xiio::fs;

/// A directory of its own for each test, gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xiio-fs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[xiio::test]
async fn files_are_written_read_copied_renamed_and_removed() {
    let dir = Dir::new("files");
    let (a, b, c) = (dir.0.join("a"), dir.0.join("b"), dir.0.join("c"));
    fs::write(&a, "héllo").await.unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), "héllo".as_bytes());
    assert_eq!(fs::read(&a).await.unwrap(), "héllo".as_bytes());
    assert_eq!(fs::copy(&a, &b).await.unwrap(), 6);
    fs::rename(&b, &c).await.unwrap();
    assert_eq!(fs::read_to_string(&c).await.unwrap(), "héllo");
    assert!(!fs::exists(&b).await.unwrap());
    fs::remove_file(&c).await.unwrap();
    assert!(!std::fs::exists(&c).unwrap());
}

#[xiio::test]
async fn directories_are_made_listed_and_removed() {
    let dir = Dir::new("directories");
    fs::create_dir(dir.0.join("one")).await.unwrap();
    fs::create_dir_all(dir.0.join("two/deep")).await.unwrap();
    let mut names: Vec<_> = fs::read_dir(&dir.0).await.unwrap().iter().map(std::fs::DirEntry::file_name).collect();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(fs::remove_dir(dir.0.join("two")).await.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_dir_all(dir.0.join("two")).await.unwrap();
    fs::remove_dir(dir.0.join("one")).await.unwrap();
    assert!(fs::read_dir(&dir.0).await.unwrap().is_empty());
}

#[xiio::test]
async fn metadata_follows_links_and_symlink_metadata_does_not() {
    let dir = Dir::new("metadata");
    let (file, link) = (dir.0.join("file"), dir.0.join("link"));
    fs::write(&file, [1, 2, 3]).await.unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert_eq!(fs::metadata(&link).await.unwrap().len(), 3);
    assert!(fs::symlink_metadata(&link).await.unwrap().is_symlink());
    assert_eq!(fs::canonicalize(&link).await.unwrap(), std::fs::canonicalize(&file).unwrap());
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[xiio::test]
async fn links_of_both_kinds_lead_to_the_file() {
    let dir = Dir::new("links");
    let (file, hard, soft) = (dir.0.join("file"), dir.0.join("hard"), dir.0.join("soft"));
    fs::write(&file, "hello").await.unwrap();
    fs::hard_link(&file, &hard).await.unwrap();
    fs::symlink(&file, &soft).await.unwrap();
    assert_eq!(fs::read_link(&soft).await.unwrap(), file);
    assert_eq!(fs::read_link(&hard).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    fs::remove_file(&file).await.unwrap();
    assert_eq!(fs::read(&hard).await.unwrap(), b"hello");
    assert_eq!(fs::read(&soft).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[xiio::test]
async fn contents_are_what_std_takes_and_neither_they_nor_a_path_outlive_the_call() {
    let dir = Dir::new("contents");
    let files = xiio::task_group!(|tg| {
        let mut writes = Vec::new();
        for text in ["one", "two"] {
            let (path, text) = (dir.0.join(text), String::from(text));
            writes.push((
                tg.spawn(fs::write(&path, &text)),
                tg.spawn(fs::write(path.with_extension("v"), text.as_bytes())),
            ));
        }
        for (one, other) in writes {
            one.await.unwrap();
            other.await.unwrap();
        }
        let bytes = vec![1];
        fs::write(dir.0.join("three"), &bytes).await.unwrap();
        fs::write(dir.0.join("four"), bytes).await.unwrap();
        fs::read_dir(&dir.0).await.unwrap()
    });
    assert_eq!(files.len(), 6);
    assert_eq!(fs::read(dir.0.join("two")).await.unwrap(), b"two");
}

#[xiio::test]
async fn errors_are_those_of_std() {
    let dir = Dir::new("errors");
    let missing = dir.0.join("missing");
    let error = fs::read(&missing).await.unwrap_err();
    assert_eq!(error.raw_os_error(), std::fs::read(&missing).unwrap_err().raw_os_error());
    std::fs::write(&missing, [0xff]).unwrap();
    assert_eq!(fs::read_to_string(&missing).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[xiio::test]
async fn the_tree_shows_where_a_function_was_called() {
    let dir = Dir::new("places");
    let fifo = dir.0.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let line = line!() + 2;
    let (read, tree) = xiio::join!(
        fs::read(&fifo), // It waits on its thread until somebody opens the other end.
        async {
            xiio::yield_now().await;
            let tree = xiio::inspect::tree().await.to_string();
            fs::write(&fifo, "hello").await.unwrap();
            tree
        }
    );
    assert_eq!(read.unwrap(), b"hello");
    let place = format!("a thread job, made at tests/tests/fs.rs:{line}");
    assert!(tree.lines().any(|text| text.ends_with(&place)), "{tree}");
}
