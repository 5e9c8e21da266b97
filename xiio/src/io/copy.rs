//! From a reader to a writer.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::{Read, Write};
use crate::runtime::checkpoint;
use crate::unwind::{self, cancellable};

/// What [`copy`] holds at most.
const CHUNK: usize = 64 * 1024;

/// Copies from `reader` to `writer` until the end, and returns how many bytes that was.
///
/// It holds at most 64 KiB and reads no more before that has been written. So a slow writer slows the reader down. Before it
/// waits for the reader it flushes the writer: an answer may depend on what a [`BufWriter`](super::BufWriter) holds back.
///
/// At the end the writer is flushed and stays open. To pass the end on, as a proxy has to, call [`Write::close`] behind it.
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
        let n_read = read_and_flush(reader.read(&mut chunk), writer.flush()).await?;
        if n_read == 0 {
            break;
        }
        writer.write_all(&chunk[..n_read]).await?;
        n_copied += n_read as u64;
        // Reader and writer of another crate may be always ready.
        checkpoint().await;
    }
    writer.flush().await?;
    Ok(n_copied)
}

/// What is read. While that is waited for the writer is flushed, to the end; an error of that cancels the read.
async fn read_and_flush(
    read: impl Future<Output = io::Result<usize>>,
    flush: impl Future<Output = io::Result<()>>,
) -> io::Result<usize> {
    let (mut read, mut flush) = (pin!(cancellable("copy", read)), pin!(flush));
    let (mut was_read, mut was_flushed, mut is_flushing) = (None, None, false);
    poll_fn(|cx| {
        // Whoever cancels the copy is to reach both.
        poll_part(&mut was_read, read.as_mut(), cx);
        is_flushing |= was_read.is_none();
        if is_flushing {
            poll_part(&mut was_flushed, flush.as_mut(), cx);
        }
        if matches!(was_flushed, Some(Err(_))) && was_read.is_none() && unwind::may_cancel(cx) {
            read.as_mut().cancel();
            poll_part(&mut was_read, read.as_mut(), cx);
        }
        if was_read.is_none() || (is_flushing && was_flushed.is_none()) {
            return Poll::Pending;
        }
        was_flushed.take().transpose()?;
        let n_read = was_read.take().flatten().expect("the read is cancelled for an error of the flush only");
        Poll::Ready(n_read)
    })
    .await
}

/// Polls a part of what a task does, unless it has ended.
fn poll_part<F: Future>(ended: &mut Option<F::Output>, part: Pin<&mut F>, cx: &mut Context<'_>) {
    if ended.is_none()
        && let Poll::Ready(output) = part.poll(cx)
    {
        *ended = Some(output);
    }
}

/// Copies from `a` to `b` and from `b` to `a` until both have ended, and returns how many bytes each direction was.
///
/// The end of one is passed on to the other ([`Write::close`]), and the other direction goes on. Each direction holds at most
/// 64 KiB, see [`copy`].
///
/// Both directions go at once, so `&A` and `&B` have to read and write: streams of `net`, [`Async`](super::Async),
/// [`DuplexStream`](super::DuplexStream), `compat::FuturesIo`. For what needs `&mut`, such as a `Box` of [`DynReadWrite`](super::DynReadWrite), keep
/// two halves, each in a `Box` of its own, and join two [`copy`] that pass on the end, as below.
///
/// # Errors
/// The first error of either direction. It cancels the other direction, cleanup included: what was read there and not
/// written is lost.
///
/// # Cancellation
/// Up to 64 KiB of each direction that were read and not yet written are lost.
///
/// # Examples
/// A proxy:
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
/// A proxy that has read a header. What the [`BufReader`](super::BufReader) has read beyond it goes first:
/// ```
/// use xiio::io::{BufRead, BufReader, Read, Write, copy_bidirectional};
/// use xiio::net::UnixStream;
///
/// # xiio::run(async {
/// let ((mut client, inner), (outer, mut server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// client.write_all(b"to: server\nquestion").await?;
/// client.close().await?;
/// server.close().await?;
/// let mut reader = BufReader::new(inner);
/// let mut header = String::new();
/// reader.read_line(&mut header).await?;
/// (&outer).write_all(reader.buffer()).await?;
/// copy_bidirectional(reader.get_ref(), &outer).await?;
/// let mut question = String::new();
/// server.read_to_string(&mut question).await?;
/// assert_eq!(question, "question");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// A proxy of halves, which passes on the end of each:
/// ```
/// use xiio::io::{Read, Write, copy};
/// use xiio::net::UnixStream;
///
/// async fn copy_and_close(mut from: impl Read, mut to: impl Write) -> std::io::Result<u64> {
///     let n_copied = copy(&mut from, &mut to).await?;
///     to.close().await?;
///     Ok(n_copied)
/// }
///
/// # xiio::run(async {
/// let ((mut client, inner), (outer, mut server)) = (UnixStream::pair()?, UnixStream::pair()?);
/// client.write_all(b"question").await?;
/// client.close().await?;
/// server.write_all(b"reply").await?;
/// server.close().await?;
/// let (from_client, to_client) = inner.into_split();
/// let (from_server, to_server) = outer.into_split();
/// let there = copy_and_close(from_client, to_server);
/// let back = copy_and_close(from_server, to_client);
/// assert_eq!(xiio::try_join!(there, back)?, (8, 5));
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
    let mut there = pin!(cancellable("copy_bidirectional", copy_and_close(a, b)));
    let mut back = pin!(cancellable("copy_bidirectional", copy_and_close(b, a)));
    let (mut copied_there, mut copied_back, mut is_back_first) = (None, None, false);
    poll_fn(|cx| {
        poll_part(&mut copied_there, there.as_mut(), cx);
        poll_part(&mut copied_back, back.as_mut(), cx);
        if has_failed(&copied_there) && copied_back.is_none() && unwind::may_cancel(cx) {
            back.as_mut().cancel();
            poll_part(&mut copied_back, back.as_mut(), cx);
        } else if has_failed(&copied_back) && copied_there.is_none() && unwind::may_cancel(cx) {
            is_back_first = true;
            there.as_mut().cancel();
            poll_part(&mut copied_there, there.as_mut(), cx);
        }
        if copied_there.is_none() || copied_back.is_none() {
            return Poll::Pending;
        }
        match (copied_there.take().flatten(), copied_back.take().flatten()) {
            (_, Some(Err(error))) if is_back_first => Poll::Ready(Err(error)),
            (Some(there), Some(back)) => Poll::Ready(there.and_then(|there| Ok((there, back?)))),
            (Some(Err(error)), None) | (None, Some(Err(error))) => Poll::Ready(Err(error)),
            _ => unreachable!("a direction is cancelled for an error of the other only"),
        }
    })
    .await
}

/// Whether a direction has ended with an error.
fn has_failed(copied: &Option<Option<io::Result<u64>>>) -> bool {
    matches!(copied, Some(Some(Err(_))))
}

async fn copy_and_close(mut reader: impl Read, mut writer: impl Write) -> io::Result<u64> {
    let n_copied = copy(&mut reader, &mut writer).await?;
    writer.close().await?;
    Ok(n_copied)
}
