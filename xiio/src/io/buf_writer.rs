//! Writing in large pieces what comes in small ones.

use std::io::{self, ErrorKind, IoSlice};

use super::traits::Write;
use crate::runtime::checkpoint;

/// How much is held back unless [`BufWriter::with_capacity`] says otherwise.
const CAPACITY: usize = 8 * 1024;

/// Holds back up to 8 KiB of what is written, so that many small writes cost few system calls.
///
/// [`Write::flush`] passes on what is held back. Without it that is lost with the writer: a destructor cannot wait.
///
/// # Examples
/// ```
/// use xiio::io::{BufWriter, Write};
///
/// let sent = xiio::run(async {
///     let mut writer = BufWriter::new(Vec::new());
///     for number in 1..=3 {
///         writer.write_all(format!("{number}\n").as_bytes()).await?;
///     }
///     assert!(writer.get_ref().is_empty());
///     writer.flush().await?;
///     std::io::Result::Ok(writer.into_inner())
/// });
/// assert_eq!(sent.unwrap(), b"1\n2\n3\n");
/// ```
#[derive(Debug)]
pub struct BufWriter<W> {
    inner: W,
    /// Invariant: `n_passed_on <= buf.len() <= capacity`; what is behind has been taken and not been passed on.
    buf: Vec<u8>,
    n_passed_on: usize,
    capacity: usize,
}

impl<W> BufWriter<W> {
    /// Writes to `inner`. The buffer is made with the first write.
    pub fn new(inner: W) -> Self {
        Self::with_capacity(CAPACITY, inner)
    }

    /// Holds back up to `capacity` bytes. With none everything is passed on at once.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufWriter, Write};
    ///
    /// # xiio::run(async {
    /// let mut writer = BufWriter::with_capacity(4, Vec::new());
    /// writer.write_all(b"abc").await?;
    /// assert!(writer.get_ref().is_empty());
    /// writer.write_all(b"def").await?;
    /// assert_eq!((&writer.get_ref()[..], writer.buffer()), (&b"abc"[..], &b"def"[..]));
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn with_capacity(capacity: usize, inner: W) -> Self {
        Self { inner, buf: Vec::new(), n_passed_on: 0, capacity }
    }

    /// The writer.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// The writer; what is written to it overtakes what is held back.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// What is held back.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buf[self.n_passed_on..]
    }

    /// Gives the writer back. What is held back is lost.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> BufWriter<W> {
    /// Passes on what is held back if `n_bytes` more would be too many.
    async fn make_room(&mut self, n_bytes: usize) -> io::Result<()> {
        if self.buf.len().saturating_add(n_bytes) > self.capacity { self.pass_on().await } else { Ok(()) }
    }

    async fn pass_on(&mut self) -> io::Result<()> {
        while self.n_passed_on < self.buf.len() {
            match self.inner.write(&self.buf[self.n_passed_on..]).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n_written => self.n_passed_on += n_written,
            }
            checkpoint().await;
        }
        self.buf.clear();
        self.n_passed_on = 0;
        Ok(())
    }
}

impl<W: Write> Write for BufWriter<W> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.make_room(buf.len()).await?;
        if buf.len() >= self.capacity {
            return self.inner.write(buf).await;
        }
        checkpoint().await;
        self.buf.extend_from_slice(buf);
        Ok(buf.len())
    }

    async fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let n_bytes = bufs.iter().fold(0, |sum: usize, buf| sum.saturating_add(buf.len()));
        self.make_room(n_bytes).await?;
        if n_bytes >= self.capacity {
            return self.inner.write_vectored(bufs).await;
        }
        checkpoint().await;
        bufs.iter().for_each(|buf| self.buf.extend_from_slice(buf));
        Ok(n_bytes)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.pass_on().await?;
        self.inner.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.pass_on().await?;
        self.inner.close().await
    }
}
