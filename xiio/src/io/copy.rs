//! From a reader to a writer.

use std::io;

use super::{Read, Write};

/// What [`copy`] holds at most.
const CHUNK: usize = 64 * 1024;

/// Copies from `reader` to `writer` until the end, and returns how many bytes that was.
///
/// It holds at most 64 KiB: nothing more is read before that has been written, so a slow writer slows the reader down.
///
/// # Errors
/// Those of either. What was read and not written is lost.
///
/// # Cancellation
/// Up to 64 KiB that were read and not yet written are lost.
///
/// # Examples
/// ```
/// let mut copied = Vec::new();
/// let n_copied = xiio::run(xiio::io::copy(&mut &b"bytes"[..], &mut copied));
/// assert_eq!((n_copied.unwrap(), copied), (5, b"bytes".to_vec()));
/// ```
///
/// # Source
/// `std::io::copy`.
pub async fn copy<R, W>(reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: Read + ?Sized,
    W: Write + ?Sized,
{
    let mut chunk = vec![0; CHUNK];
    let mut n_copied = 0;
    loop {
        let n_read = reader.read(&mut chunk).await?;
        if n_read == 0 {
            break;
        }
        writer.write_all(&chunk[..n_read]).await?;
        n_copied += n_read as u64;
    }
    writer.flush().await?;
    Ok(n_copied)
}
