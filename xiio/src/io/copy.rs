//! From a reader to a writer.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::{Read, Write};

/// What [`copy`] holds at most.
const CHUNK: usize = 64 * 1024;

/// Copies from `reader` to `writer` until the end, and returns how many bytes that was.
///
/// It holds at most 64 KiB and reads no more before that has been written. So a slow writer slows the reader down. Before it
/// waits for the reader it flushes the writer: an answer may depend on what a [`BufWriter`](super::BufWriter) holds back.
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
        let n_read = {
            let mut read = pin!(reader.read(&mut chunk));
            match poll_once(read.as_mut()).await {
                Poll::Ready(n_read) => n_read?,
                Poll::Pending => {
                    writer.flush().await?;
                    read.await?
                }
            }
        };
        if n_read == 0 {
            break;
        }
        writer.write_all(&chunk[..n_read]).await?;
        n_copied += n_read as u64;
    }
    writer.flush().await?;
    Ok(n_copied)
}

/// What a future says now. It must be polled again, as its wake may have come in between.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Copies from `a` to `b` and from `b` to `a` until both have ended, and returns how many bytes each direction was.
///
/// The end of one is passed on to the other ([`Write::close`]), and the other direction goes on. Each direction holds at most
/// 64 KiB, see [`copy`].
///
/// # Errors
/// The first error of either direction. It ends the other direction as well: what was read there and not
/// written is lost.
///
/// # Cancellation
/// Up to 64 KiB of each direction that were read and not yet written are lost.
///
/// # Examples
/// A proxy.
/// ```
/// use xiio::io::{Read, Write, copy_bidirectional};
/// use xiio::net::UnixStream;
///
/// # xiio::run(async {
/// let ((mut client, inner), (outer, mut server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// client.write_all(b"question").await?;
/// client.close().await?;
/// server.write_all(b"reply").await?;
/// server.close().await?;
/// assert_eq!(copy_bidirectional(&inner, &outer).await?, (8, 5));
/// let mut question = String::new();
/// server.read_to_string(&mut question).await?;
/// assert_eq!(question, "question");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Source
/// `tokio::io::copy_bidirectional`, which takes `&mut`; here both directions go through shared references.
pub async fn copy_bidirectional<A, B>(a: &A, b: &B) -> io::Result<(u64, u64)>
where
    A: ?Sized,
    B: ?Sized,
    for<'s> &'s A: Read + Write,
    for<'s> &'s B: Read + Write,
{
    // One task for both, whose wakes poll both: a stream of TLS writes in order to read.
    let mut there = pin!(copy_and_close(a, b));
    let mut back = pin!(copy_and_close(b, a));
    let mut copied = (None, None);
    poll_fn(|cx| {
        poll_part(&mut copied.0, there.as_mut(), cx)?;
        poll_part(&mut copied.1, back.as_mut(), cx)?;
        match copied {
            (Some(there), Some(back)) => Poll::Ready(Ok((there, back))),
            _ => Poll::Pending,
        }
    })
    .await
}

async fn copy_and_close(mut reader: impl Read, mut writer: impl Write) -> io::Result<u64> {
    let n_copied = copy(&mut reader, &mut writer).await?;
    writer.close().await?;
    Ok(n_copied)
}

/// Polls one direction, unless it has ended.
fn poll_part(
    n_copied: &mut Option<u64>,
    copying: Pin<&mut impl Future<Output = io::Result<u64>>>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if n_copied.is_none()
        && let Poll::Ready(result) = copying.poll(cx)
    {
        *n_copied = Some(result?);
    }
    Ok(())
}
