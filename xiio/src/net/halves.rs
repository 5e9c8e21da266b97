//! The two directions of a stream, apart.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::rc::Rc;

use crate::io::{Read, Write};

/// The half of a stream that is read, see `split` of the streams.
#[derive(Debug)]
pub struct ReadHalf<'a, S>(&'a S);

/// The half of a stream that is written to, see `split` of the streams.
#[derive(Debug)]
pub struct WriteHalf<'a, S>(&'a S);

/// The half of a stream that is read and may go its own way, see `into_split` of the streams.
#[derive(Debug)]
pub struct OwnedReadHalf<S>(Rc<S>);

/// The half of a stream that is written to and may go its own way, see `into_split` of the streams.
///
/// Dropped, it tells the other end that no more comes. That goes for the stream, so for all processes that have it: who drops an inherited half
/// after a fork ends the stream of the parent as well.
///
/// # Examples
/// ```
/// use xiio::io::{Read, Write};
/// use xiio::net::UnixStream;
///
/// # xiio::run(async {
/// let (stream, mut peer) = UnixStream::pair()?;
/// let (mut read, mut write) = stream.into_split();
/// xiio::task_group!(|tg| {
///     tg.spawn(async move { write.write_all(b"all of it").await });
///     let mut text = String::new();
///     // Ends since the half to write was dropped.
///     peer.read_to_string(&mut text).await?;
///     assert_eq!(text, "all of it");
///     drop(peer);
///     assert_eq!(read.read(&mut [0; 8]).await?, 0);
/// });
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf<S>(Writing<S>);

struct Writing<S> {
    stream: Rc<S>,
    shutdown: fn(&S) -> io::Result<()>,
    ends: bool,
}

pub(super) fn split<S>(stream: &S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf(stream), WriteHalf(stream))
}

pub(super) fn into_split<S>(stream: S, shutdown: fn(&S) -> io::Result<()>) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Rc::new(stream);
    let writing = Writing { stream: Rc::clone(&stream), shutdown, ends: true };
    (OwnedReadHalf(stream), OwnedWriteHalf(writing))
}

impl<S> AsRef<S> for ReadHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S> AsRef<S> for WriteHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.0
    }
}

impl<S> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.0.stream
    }
}

impl<S> OwnedReadHalf<S> {
    /// Puts the halves of one stream together again.
    ///
    /// # Errors
    /// Both halves, when they are not of one stream.
    ///
    /// # Examples
    /// ```
    /// use xiio::net::UnixStream;
    ///
    /// # xiio::run(async {
    /// let ((one, _), (other, _)) = (UnixStream::pair()?, UnixStream::pair()?);
    /// let ((read, write), (other_read, other_write)) = (one.into_split(), other.into_split());
    /// let error = read.reunite(other_write).unwrap_err();
    /// assert_eq!(error.to_string(), "the halves are not of one stream");
    /// let _one: UnixStream = error.0.reunite(write)?;
    /// # drop(other_read);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn reunite(self, write: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        write.reunite(self)
    }
}

impl<S> OwnedWriteHalf<S> {
    /// Drops the half without telling the other end.
    pub fn forget(mut self) {
        self.0.ends = false;
    }

    /// Puts the halves of one stream together again.
    ///
    /// # Errors
    /// Both halves, when they are not of one stream.
    pub fn reunite(self, read: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Rc::ptr_eq(&self.0.stream, &read.0) {
            return Err(ReuniteError(read, self));
        }
        self.forget();
        Ok(Rc::into_inner(read.0).unwrap_or_else(|| unreachable!("a stream has two halves")))
    }
}

impl<S> Drop for Writing<S> {
    fn drop(&mut self) {
        if self.ends {
            // A stream that is not connected any more has told by that.
            let _ = (self.shutdown)(&self.stream);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Writing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

/// Two halves that are not of one stream.
#[derive(Debug)]
pub struct ReuniteError<S>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of one stream")
    }
}

impl<S: fmt::Debug> std::error::Error for ReuniteError<S> {}

macro_rules! reads {
    ([$($generics:tt)*] $half:ty) => {
        impl<$($generics)*> Read for $half
        where
            for<'s> &'s S: Read,
        {
            async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let mut stream: &S = (*self).as_ref();
                stream.read(buf).await
            }

            async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let mut stream: &S = (*self).as_ref();
                stream.read_vectored(bufs).await
            }
        }

        #[cfg(feature = "futures-io")]
        crate::io::delegate!(read [$($generics)*] $half, this => AsRef::<S>::as_ref(this), where for<'s> &'s S: futures_io::AsyncRead);
    };
}

macro_rules! writes {
    ([$($generics:tt)*] $half:ty) => {
        impl<$($generics)*> Write for $half
        where
            for<'s> &'s S: Write,
        {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                let mut stream: &S = (*self).as_ref();
                stream.write(buf).await
            }

            async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                let mut stream: &S = (*self).as_ref();
                stream.write_vectored(bufs).await
            }

            async fn close(&mut self) -> io::Result<()> {
                let mut stream: &S = (*self).as_ref();
                stream.close().await
            }
        }

        #[cfg(feature = "futures-io")]
        crate::io::delegate!(write [$($generics)*] $half, this => AsRef::<S>::as_ref(this), where for<'s> &'s S: futures_io::AsyncWrite);
    };
}

reads!(['a, S] ReadHalf<'a, S>);
reads!([S] OwnedReadHalf<S>);
writes!(['a, S] WriteHalf<'a, S>);
writes!([S] OwnedWriteHalf<S>);
