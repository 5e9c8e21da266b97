//! Reading and writing: the traits.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use super::adapters::{Chain, Take};
use super::buffered::BufRead;
use crate::runtime::checkpoint;

/// How much [`Read::read_to_end`] asks for at first; it doubles while that is filled.
const FIRST_CHUNK: usize = 4 * 1024;
/// How much it asks for at most.
const MAX_CHUNK: usize = 256 * 1024;
/// How much [`Read::read_buf`] asks for at most.
const MAX_SPARE: usize = 64 * 1024;
/// How much it asks for behind the room that the buffer had at first.
const PROBE: usize = 32;

/// What bytes can be read from, as `std::io::Read`; see the [module](crate::io) for why its methods are `async`.
///
/// # Examples
/// ```
/// use xiio::io::Read;
///
/// /// Reads a length and as many bytes, in the manner of Pascal.
/// async fn read_text(source: &mut impl Read) -> std::io::Result<String> {
///     let mut len = [0];
///     source.read_exact(&mut len).await?;
///     let mut text = vec![0; len[0].into()];
///     source.read_exact(&mut text).await?;
///     String::from_utf8(text).map_err(std::io::Error::other)
/// }
///
/// assert_eq!(xiio::run(read_text(&mut &b"\x02hi there"[..])).unwrap(), "hi");
/// ```
#[diagnostic::on_unimplemented(
    note = "a stream with the traits of `futures-io` goes into `xiio::compat::FuturesIo` (feature `futures-io`)",
    note = "a descriptor goes into `xiio::io::Async`, one that is shared with other programs into `xiio::io::Unchanged`"
)]
pub trait Read {
    /// Waits until there is something, and reads once into `buf`.
    ///
    /// Returns the number of bytes placed at the start of `buf`; `0` is the end, or an empty `buf`.
    ///
    /// # Errors
    /// What the system reports; nothing has been read then.
    ///
    /// # Cancellation
    /// Nothing has been taken. Implementations have to keep this promise.
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// As [`Read::read`], filling one buffer after the other.
    ///
    /// Unless it is implemented otherwise, only the first buffer that is not empty is filled.
    ///
    /// # Errors
    /// As [`Read::read`].
    ///
    /// # Cancellation
    /// Nothing has been taken.
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> impl Future<Output = io::Result<usize>> {
        async {
            match bufs.iter_mut().find(|buf| !buf.is_empty()) {
                Some(buf) => self.read(buf).await,
                None => {
                    checkpoint().await;
                    Ok(0)
                }
            }
        }
    }

    /// Reads once into the spare capacity of `buf`, behind what is in it, and returns how many bytes that was; `0` is the end.
    ///
    /// Asks for at most 64 KiB. A vector without spare capacity is given room for 4 KiB more.
    ///
    /// # Errors
    /// As [`Read::read`]; `buf` is as before then.
    ///
    /// # Cancellation
    /// Nothing has been taken; `buf` is as before.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// # xiio::run(async {
    /// let mut stream = &b"hello"[..];
    /// let mut message = Vec::with_capacity(4);
    /// assert_eq!(stream.read_buf(&mut message).await?, 4);
    /// assert_eq!(stream.read_buf(&mut message).await?, 1);
    /// assert_eq!(message, b"hello");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    ///
    /// # Source
    /// `tokio::io::AsyncReadExt::read_buf`. What is read into is zeroed first.
    fn read_buf(&mut self, buf: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
        async {
            let spare = match buf.capacity() - buf.len() {
                0 => FIRST_CHUNK,
                spare => spare.min(MAX_SPARE),
            };
            let mut filled = Filled { len: buf.len(), buf };
            let n_read = self.read(filled.spare(spare)).await?;
            filled.len += n_read;
            Ok(n_read)
        }
    }

    /// Fills all of `buf`.
    ///
    /// # Errors
    /// As [`Read::read`]; `UnexpectedEof` when the end comes before. What was read until then is in `buf`, and how much is
    /// not told.
    ///
    /// # Cancellation
    /// A part may have been read, and is lost.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// # xiio::run(async {
    /// let mut stream = &b"head and body"[..];
    /// let mut head = [0; 4];
    /// stream.read_exact(&mut head).await?;
    /// assert_eq!(&head, b"head");
    /// assert!(stream.read_exact(&mut [0; 100]).await.is_err());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn read_exact(&mut self, mut buf: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        async move {
            if buf.is_empty() {
                checkpoint().await;
            }
            while !buf.is_empty() {
                match self.read(buf).await? {
                    0 => return Err(unexpected_end(buf.len())),
                    n_read => buf = &mut buf[n_read..],
                }
                if !buf.is_empty() {
                    // A reader of another crate may be always ready. The same in the other loops.
                    checkpoint().await;
                }
            }
            Ok(())
        }
    }

    /// Appends everything up to the end to `buf`, and returns how much that was.
    ///
    /// There is no limit but the memory; [`Read::take`] sets one. A `buf` that has the room for all of it does not grow.
    ///
    /// # Errors
    /// As [`Read::read`]; what was read before is in `buf`.
    ///
    /// # Cancellation
    /// What was read before is in `buf`.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// let mut body = Vec::new();
    /// let read = xiio::run((&b"more than wanted"[..]).take(4).read_to_end(&mut body));
    /// assert_eq!((read.unwrap(), body), (4, b"more".to_vec()));
    /// ```
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
        async {
            let (start, room) = (buf.len(), buf.capacity());
            let mut filled = Filled { len: start, buf };
            let mut chunk = FIRST_CHUNK;
            loop {
                let n_read = if room > start && filled.len == room {
                    // Perhaps it was made for just so much: only what comes behind makes it grow.
                    let mut probe = [0; PROBE];
                    let n_read = self.read(&mut probe).await?;
                    filled.append(&probe[..n_read]);
                    n_read
                } else {
                    let left = room.saturating_sub(filled.len);
                    let n_asked = if left > 0 { chunk.min(left) } else { chunk };
                    let n_read = self.read(filled.spare(n_asked)).await?;
                    filled.len += n_read;
                    n_read
                };
                match n_read {
                    0 => return Ok(filled.len - start),
                    n_read if n_read == chunk => chunk = (chunk * 2).min(MAX_CHUNK),
                    _ => {}
                }
                checkpoint().await;
            }
        }
    }

    /// Appends everything up to the end to `text`, and returns how many bytes that was.
    ///
    /// # Errors
    /// As [`Read::read`]; `InvalidData` when it is not UTF-8. `text` is as before then.
    ///
    /// # Cancellation
    /// What was read before is lost; [`Read::read_to_end`] keeps it.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// # xiio::run(async {
    /// let mut text = String::new();
    /// (&b"hello"[..]).read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn read_to_string(&mut self, text: &mut String) -> impl Future<Output = io::Result<usize>> {
        async {
            let mut bytes = Vec::new();
            self.read_to_end(&mut bytes).await?;
            text.push_str(std::str::from_utf8(&bytes).map_err(invalid_text)?);
            Ok(bytes.len())
        }
    }

    /// The same, ending after `limit` bytes.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// # xiio::run(async {
    /// let mut start = Vec::new();
    /// (&b"more than wanted"[..]).take(4).read_to_end(&mut start).await?;
    /// assert_eq!(start, b"more");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn take(self, limit: u64) -> Take<Self>
    where
        Self: Sized,
    {
        Take::new(self, limit)
    }

    /// The same, and what `next` has after its end.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::Read;
    ///
    /// # xiio::run(async {
    /// // What was read too far comes first.
    /// let mut text = String::new();
    /// (&b"head and "[..]).chain(&b"body"[..]).read_to_string(&mut text).await?;
    /// assert_eq!(text, "head and body");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn chain<R: Read>(self, next: R) -> Chain<Self, R>
    where
        Self: Sized,
    {
        Chain::new(self, next)
    }
}

/// A vector of which only a part is filled; the rest is cut off at the end, also after a panic or a cancellation.
struct Filled<'a> {
    buf: &'a mut Vec<u8>,
    len: usize,
}

impl Filled<'_> {
    /// Room for `n_bytes` behind what is filled.
    fn spare(&mut self, n_bytes: usize) -> &mut [u8] {
        // What was zeroed for the read before and not filled is used again.
        self.buf.resize(self.len + n_bytes, 0);
        &mut self.buf[self.len..]
    }

    fn append(&mut self, bytes: &[u8]) {
        self.buf.truncate(self.len);
        self.buf.extend_from_slice(bytes);
        self.len = self.buf.len();
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        self.buf.truncate(self.len);
    }
}

fn unexpected_end(n_missing: usize) -> io::Error {
    let text = format!("the stream ended with {n_missing} bytes still to come");
    io::Error::new(ErrorKind::UnexpectedEof, text)
}

pub(super) fn invalid_text(error: std::str::Utf8Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// What bytes can be written to, as `std::io::Write`; see the [module](crate::io) for why its methods are `async`.
///
/// # Examples
/// ```
/// use xiio::io::Write;
///
/// # xiio::run(async {
/// async fn greet(to: &mut impl Write) -> std::io::Result<()> {
///     to.write_all(b"hello\n").await?;
///     to.flush().await
/// }
///
/// let mut greeting = Vec::new();
/// greet(&mut greeting).await?;
/// assert_eq!(greeting, b"hello\n");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    note = "a stream with the traits of `futures-io` goes into `xiio::compat::FuturesIo` (feature `futures-io`)",
    note = "a descriptor goes into `xiio::io::Async`, one that is shared with other programs into `xiio::io::Unchanged`"
)]
pub trait Write {
    /// Waits until there is room, and writes once from `buf`.
    ///
    /// Returns the number of bytes taken from the start of `buf`.
    ///
    /// # Errors
    /// What the system reports; nothing has been written then. `BrokenPipe` when nobody reads any more, never a signal.
    ///
    /// # Cancellation
    /// Nothing has been written. Implementations have to keep this promise.
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>>;

    /// As [`Write::write`], from one buffer after the other.
    ///
    /// Unless it is implemented otherwise, only the first buffer that is not empty is looked at.
    ///
    /// # Errors
    /// As [`Write::write`].
    ///
    /// # Cancellation
    /// Nothing has been written.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>> {
        async {
            match bufs.iter().find(|buf| !buf.is_empty()) {
                Some(buf) => self.write(buf).await,
                None => {
                    checkpoint().await;
                    Ok(0)
                }
            }
        }
    }

    /// Passes on what is held back. What is not buffered has nothing to do.
    ///
    /// # Errors
    /// As [`Write::write`].
    ///
    /// # Cancellation
    /// A part may have been passed on; the next call goes on with the rest.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> {
        async {
            checkpoint().await;
            Ok(())
        }
    }

    /// Passes on what is held back, and tells the other end that no more comes.
    ///
    /// A socket ends its direction to write (`shutdown(2)`); what has no such end is only flushed. The descriptor itself is
    /// closed when its owner is dropped.
    ///
    /// # Errors
    /// As [`Write::flush`]. A stream that is not connected any more is closed already.
    ///
    /// # Cancellation
    /// A part may have been passed on; the next call goes on with the rest.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{Read, Write};
    /// use xiio::net::UnixStream;
    ///
    /// # xiio::run(async {
    /// let (mut a, mut b) = UnixStream::pair()?;
    /// a.write_all(b"all").await?;
    /// a.close().await?;
    /// let mut text = String::new();
    /// b.read_to_string(&mut text).await?;
    /// assert_eq!(text, "all");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn close(&mut self) -> impl Future<Output = io::Result<()>> {
        self.flush()
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// As [`Write::write`]; `WriteZero` when nothing is accepted any more. How much was written before is not told.
    ///
    /// # Cancellation
    /// A part may have been written: where the other end must not see half a message, write in a
    /// [`shield`](crate::shield()).
    fn write_all(&mut self, mut buf: &[u8]) -> impl Future<Output = io::Result<()>> {
        async move {
            if buf.is_empty() {
                checkpoint().await;
            }
            while !buf.is_empty() {
                match self.write(buf).await? {
                    0 => return Err(ErrorKind::WriteZero.into()),
                    n_written => buf = &buf[n_written..],
                }
                if !buf.is_empty() {
                    checkpoint().await;
                }
            }
            Ok(())
        }
    }

    /// Writes all of several buffers. They are left empty.
    ///
    /// # Errors
    /// As [`Write::write_all`].
    ///
    /// # Cancellation
    /// A part may have been written; `bufs` are advanced past it.
    ///
    /// # Examples
    /// ```
    /// use std::io::IoSlice;
    /// use xiio::io::Write;
    ///
    /// # xiio::run(async {
    /// let mut message = Vec::new();
    /// message.write_all_vectored(&mut [IoSlice::new(b"head, "), IoSlice::new(b"body")]).await?;
    /// assert_eq!(message, b"head, body");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn write_all_vectored(&mut self, mut bufs: &mut [IoSlice<'_>]) -> impl Future<Output = io::Result<()>> {
        async move {
            IoSlice::advance_slices(&mut bufs, 0);
            if bufs.is_empty() {
                checkpoint().await;
            }
            while !bufs.is_empty() {
                match self.write_vectored(bufs).await? {
                    0 => return Err(ErrorKind::WriteZero.into()),
                    n_written => IoSlice::advance_slices(&mut bufs, n_written),
                }
                if !bufs.is_empty() {
                    checkpoint().await;
                }
            }
            Ok(())
        }
    }
}

macro_rules! through_pointer {
    ($pointee:ident => $pointer:ty) => {
        impl<$pointee: Read + ?Sized> Read for $pointer {
            async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (**self).read(buf).await
            }

            async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (**self).read_vectored(bufs).await
            }
        }

        impl<$pointee: BufRead + ?Sized> BufRead for $pointer {
            async fn fill_buf(&mut self) -> io::Result<&[u8]> {
                (**self).fill_buf().await
            }

            fn consume(&mut self, n_bytes: usize) {
                (**self).consume(n_bytes);
            }

            async fn fill_until(&mut self, end: u8, limit: usize) -> io::Result<usize> {
                (**self).fill_until(end, limit).await
            }
        }

        impl<$pointee: Write + ?Sized> Write for $pointer {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (**self).write(buf).await
            }

            async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                (**self).write_vectored(bufs).await
            }

            async fn flush(&mut self) -> io::Result<()> {
                (**self).flush().await
            }

            async fn close(&mut self) -> io::Result<()> {
                (**self).close().await
            }
        }
    };
}

through_pointer!(T => &mut T);
through_pointer!(T => Box<T>);

/// The traits of a type by those of a reference to it.
macro_rules! by_reference {
    (read [$($generics:tt)*] $type:ty $(, where $($bounds:tt)*)?) => {
        impl<$($generics)*> $crate::io::Read for $type $(where $($bounds)*)? {
            async fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buf).await
            }

            async fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                (&*self).read_vectored(bufs).await
            }
        }
    };
    (write [$($generics:tt)*] $type:ty $(, where $($bounds:tt)*)?) => {
        impl<$($generics)*> $crate::io::Write for $type $(where $($bounds)*)? {
            async fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buf).await
            }

            async fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                (&*self).write_vectored(bufs).await
            }

            async fn flush(&mut self) -> std::io::Result<()> {
                (&*self).flush().await
            }

            async fn close(&mut self) -> std::io::Result<()> {
                (&*self).close().await
            }
        }
    };
}

pub(crate) use by_reference;
