//! Reading by lines, from a buffer that grows up to a bound.

use std::io::{self, ErrorKind};

use super::traits::{Read, invalid_text};

/// What one read asks for.
const CHUNK: usize = 8 * 1024;

/// How long a line may be unless [`BufReader::max_line`] says otherwise.
const MAX_LINE: usize = 64 * 1024;

/// What can be looked at before it is taken, as `std::io::BufRead`.
///
/// # Examples
/// ```
/// use xiio::io::{BufRead, BufReader};
///
/// # xiio::run(async {
/// let mut words = BufReader::new(&b"one,two"[..]);
/// let mut word = Vec::new();
/// words.read_until(b',', &mut word).await?;
/// assert_eq!((&word[..], words.fill_buf().await?), (&b"one,"[..], &b"two"[..]));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub trait BufRead: Read {
    /// Waits until something is buffered and shows it, without taking it; nothing at the end.
    ///
    /// # Errors
    /// As [`Read::read`].
    ///
    /// # Cancellation
    /// Nothing is lost.
    fn fill_buf(&mut self) -> impl Future<Output = io::Result<&[u8]>>;

    /// Takes `n_bytes` from the front of what was shown.
    ///
    /// # Panics
    /// When fewer were shown.
    fn consume(&mut self, n_bytes: usize);

    /// Appends everything up to and with the next `end` to `buf`, and returns how much that was; `0` at the end of the
    /// stream. Without an `end` the rest of the stream is the last one.
    ///
    /// # Errors
    /// As [`Read::read`]; `InvalidData` when the piece is longer than it may be ([`BufReader::max_line`]). Nothing is taken
    /// then, so that the error comes again.
    ///
    /// # Cancellation
    /// Nothing is taken: what has come so far stays in the buffer.
    fn read_until(&mut self, end: u8, buf: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>>;

    /// Appends the next line to `line`, with its `\n`, and returns how many bytes that was; `0` at the end of the stream.
    ///
    /// # Errors
    /// As [`BufRead::read_until`]; `InvalidData` for a line that is not UTF-8, which is skipped.
    ///
    /// # Cancellation
    /// Nothing is taken: what has come so far stays in the buffer.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    ///
    /// # xiio::run(async {
    /// let mut lines = BufReader::new(&b"one\ntwo"[..]);
    /// let mut line = String::new();
    /// while lines.read_line(&mut line).await? > 0 {
    ///     println!("{}", line.trim_end());
    ///     line.clear();
    /// }
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn read_line(&mut self, line: &mut String) -> impl Future<Output = io::Result<usize>> {
        async {
            let mut bytes = Vec::new();
            let n_read = self.read_until(b'\n', &mut bytes).await?;
            line.push_str(std::str::from_utf8(&bytes).map_err(invalid_text)?);
            Ok(n_read)
        }
    }

    /// The lines, one after the other, without `\n` or `\r\n`.
    fn lines(self) -> Lines<Self>
    where
        Self: Sized,
    {
        Lines { reader: self, has_failed: false }
    }
}

/// Reads ahead, so that lines can be told apart with few system calls.
///
/// A line is taken only when it is complete. So a cancelled [`BufRead::read_line`] loses nothing, and the buffer has to hold
/// the longest line: up to [`BufReader::max_line`], 64 KiB at first. That is a bound on what another program can
/// make this one keep.
///
/// # Examples
/// ```
/// use xiio::io::{BufRead, BufReader};
///
/// let mut lines = BufReader::new(&b"one\r\ntwo\nthree"[..]).lines();
/// let words = xiio::run(async {
///     let mut words = Vec::new();
///     while let Some(line) = lines.next().await {
///         words.push(line?);
///     }
///     std::io::Result::Ok(words)
/// });
/// assert_eq!(words.unwrap(), ["one", "two", "three"]);
/// ```
#[derive(Debug)]
pub struct BufReader<R> {
    inner: R,
    /// Invariant: `start <= end <= buf.len()`; what is between has been read and not taken.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    max_line: usize,
}

impl<R> BufReader<R> {
    /// Reads ahead from `inner`. The buffer is made with the first read.
    pub fn new(inner: R) -> Self {
        Self { inner, buf: Vec::new(), start: 0, end: 0, max_line: MAX_LINE }
    }

    /// How many bytes a line may have, its end included; `usize::MAX` is no limit but the memory.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    ///
    /// # xiio::run(async {
    /// let mut lines = BufReader::new(&b"far too long\n"[..]).max_line(4);
    /// let error = lines.read_line(&mut String::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_line(mut self, n_bytes: usize) -> Self {
        self.max_line = n_bytes;
        self
    }

    /// The reader. What is buffered is not in there any more.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The reader; reading from it skips what is buffered.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What has been read and not taken.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Gives the reader back. What is buffered is lost.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Room for another chunk behind what is buffered.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buf.len() - self.end < CHUNK {
            self.buf.resize(self.end + CHUNK, 0);
        }
    }

    fn find(&self, end: u8, n_searched: usize) -> Option<usize> {
        let found = self.buffer()[n_searched..].iter().position(|byte| *byte == end)?;
        Some(n_searched + found + 1)
    }

    fn too_long(&self) -> io::Error {
        let text = format!("a line is longer than {} bytes; `BufReader::max_line` sets the limit", self.max_line);
        io::Error::new(ErrorKind::InvalidData, text)
    }
}

impl<R: Read> BufReader<R> {
    /// Reads once behind what is buffered; `false` at the end.
    async fn read_more(&mut self) -> io::Result<bool> {
        self.make_room();
        let n_read = self.inner.read(&mut self.buf[self.end..]).await?;
        self.end += n_read;
        Ok(n_read > 0)
    }

    /// Buffers up to and with the next `end`, and returns how much that is.
    async fn buffer_until(&mut self, end: u8) -> io::Result<usize> {
        let mut n_searched = 0;
        loop {
            if let Some(len) = self.find(end, n_searched) {
                return if len > self.max_line { Err(self.too_long()) } else { Ok(len) };
            }
            n_searched = self.buffer().len();
            if n_searched > self.max_line {
                return Err(self.too_long());
            }
            if !self.read_more().await? {
                return Ok(n_searched);
            }
        }
    }
}

impl<R: Read> Read for BufReader<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffer().is_empty() && buf.len() >= CHUNK {
            return self.inner.read(buf).await;
        }
        let mut shown = self.fill_buf().await?;
        let n_read = io::Read::read(&mut shown, buf)?;
        self.consume(n_read);
        Ok(n_read)
    }
}

impl<R: Read> BufRead for BufReader<R> {
    async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer().is_empty() {
            self.read_more().await?;
        }
        Ok(self.buffer())
    }

    fn consume(&mut self, n_bytes: usize) {
        let n_buffered = self.buffer().len();
        assert!(n_bytes <= n_buffered, "{n_bytes} bytes were consumed, and {n_buffered} are buffered");
        self.start += n_bytes;
    }

    async fn read_until(&mut self, end: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        let len = self.buffer_until(end).await?;
        buf.extend_from_slice(&self.buffer()[..len]);
        self.consume(len);
        Ok(len)
    }
}

/// The lines of a [`BufRead`].
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    has_failed: bool,
}

impl<R: BufRead> Lines<R> {
    /// Waits for the next line; `None` at the end, and after an error.
    ///
    /// # Errors
    /// As [`BufRead::read_until`]. A line that is not UTF-8 is `InvalidData` and skipped; the next one comes after it.
    ///
    /// # Cancellation
    /// Nothing is lost: the line is given next time.
    pub async fn next(&mut self) -> Option<io::Result<String>> {
        if self.has_failed {
            return None;
        }
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line).await {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8(line).map(without_end).map_err(|error| invalid_text(error.utf8_error()))),
            Err(error) => {
                self.has_failed = true;
                Some(Err(error))
            }
        }
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

fn without_end(mut line: String) -> String {
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
    line
}
