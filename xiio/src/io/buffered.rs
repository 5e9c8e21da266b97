//! Reading by lines, from a buffer that grows up to a bound.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::rc::Rc;

use super::traits::{Read, invalid_text};
use crate::runtime::checkpoint;

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

    /// Buffers everything up to and with the next `end`, but at most `limit` bytes, and returns how much that is; less at the
    /// end of the stream.
    ///
    /// [`BufRead::fill_buf`] then shows that many bytes at once.
    ///
    /// # Errors
    /// As [`Read::read`]; `InvalidData` when the piece is longer than it may be ([`BufReader::max_line`]). Nothing is taken
    /// then, so that the error comes again.
    ///
    /// # Cancellation
    /// Nothing is lost.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    ///
    /// # xiio::run(async {
    /// let mut lines = BufReader::new(&b"one\ntwo\n"[..]);
    /// assert_eq!(lines.fill_until(b'\n', 100).await?, 4);
    /// assert_eq!(lines.fill_until(b'\n', 2).await?, 2);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn fill_until(&mut self, end: u8, limit: usize) -> impl Future<Output = io::Result<usize>>;

    /// Appends everything up to and with the next `end` to `buf`, and returns how much that was; `0` at the end of the
    /// stream. Without an `end` the rest of the stream is the last one.
    ///
    /// # Errors
    /// As [`BufRead::fill_until`].
    ///
    /// # Cancellation
    /// Nothing is taken: what has come so far stays in the buffer.
    fn read_until(&mut self, end: u8, buf: &mut Vec<u8>) -> impl Future<Output = io::Result<usize>> {
        async move {
            let len = self.fill_until(end, usize::MAX).await?;
            if len > 0 {
                // It is there already.
                buf.extend_from_slice(&self.fill_buf().await?[..len]);
                self.consume(len);
            }
            Ok(len)
        }
    }

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
        Lines { pieces: self.split(b'\n') }
    }

    /// The pieces that end with the byte `end`, one after the other, without it.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    ///
    /// # xiio::run(async {
    /// let mut words = BufReader::new(&b"one two"[..]).split(b' ');
    /// assert_eq!(words.next().await.unwrap()?, b"one");
    /// assert_eq!(words.next().await.unwrap()?, b"two");
    /// assert!(words.next().await.is_none());
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    fn split(self, end: u8) -> Split<Self>
    where
        Self: Sized,
    {
        Split::new(self, end)
    }
}

/// Reads ahead, so that lines can be told apart with few system calls.
///
/// A line is taken only when it is complete. So a cancelled [`BufRead::read_line`] loses nothing, and the buffer has to hold
/// the longest line: up to [`BufReader::max_line`], 64 KiB at first. That bounds how much another program can make this one
/// hold.
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
    capacity: usize,
    max_line: usize,
}

impl<R> BufReader<R> {
    /// Reads ahead from `inner`, 8 KiB at once. The buffer is made with the first read.
    pub fn new(inner: R) -> Self {
        Self::with_capacity(CHUNK, inner)
    }

    /// Reads `capacity` bytes ahead at once, at least one. The buffer grows beyond that for a line that is longer.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader};
    ///
    /// # xiio::run(async {
    /// let mut lines = BufReader::with_capacity(3, &b"more than three\n"[..]);
    /// assert_eq!(lines.fill_buf().await?, b"mor");
    /// assert_eq!(lines.read_line(&mut String::new()).await?, 16);
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn with_capacity(capacity: usize, inner: R) -> Self {
        Self { inner, buf: Vec::new(), start: 0, end: 0, capacity: capacity.max(1), max_line: MAX_LINE }
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
        if self.buf.len() - self.end < self.capacity {
            self.buf.resize(self.end + self.capacity, 0);
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
}

impl<R: Read> Read for BufReader<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            checkpoint().await;
            return Ok(0);
        }
        if self.buffer().is_empty() && buf.len() >= self.capacity {
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
        } else {
            checkpoint().await;
        }
        Ok(self.buffer())
    }

    fn consume(&mut self, n_bytes: usize) {
        let n_buffered = self.buffer().len();
        assert!(n_bytes <= n_buffered, "{n_bytes} bytes were consumed, and {n_buffered} are buffered");
        self.start += n_bytes;
    }

    async fn fill_until(&mut self, end: u8, limit: usize) -> io::Result<usize> {
        checkpoint().await;
        let mut n_searched = 0;
        loop {
            let (found, n_buffered) = (self.find(end, n_searched), self.buffer().len());
            let len = found.unwrap_or(n_buffered).min(limit);
            if len > self.max_line {
                return Err(self.too_long());
            }
            if found.is_some() || len == limit {
                return Ok(len);
            }
            n_searched = n_buffered;
            if !self.read_more().await? {
                return Ok(len);
            }
            checkpoint().await;
        }
    }
}

/// A piece with its end; `None` behind the last one.
pub(super) type Piece = Option<io::Result<Vec<u8>>>;

/// The pieces of a [`BufRead`] up to some byte, see [`BufRead::split`].
///
/// It stays on its thread, as do reads of most readers: the feature `futures-core` lets it hold one that has begun.
pub struct Split<R> {
    /// `None` while it is lent.
    pub(super) reader: Option<R>,
    /// The read of one who polls without a future.
    #[cfg(feature = "futures-core")]
    pub(super) lent: Option<super::stream::Lent<R>>,
    /// What a type can do must not depend on a feature, which any crate of a program may turn on.
    lends: PhantomData<Rc<Cell<R>>>,
    pub(super) end: u8,
    pub(super) has_failed: bool,
}

impl<R> Split<R> {
    fn new(reader: R, end: u8) -> Self {
        Self {
            reader: Some(reader),
            #[cfg(feature = "futures-core")]
            lent: None,
            lends: PhantomData,
            end,
            has_failed: false,
        }
    }

    /// The reader. If a stream has begun a read, that is given up. No byte is lost.
    pub fn get_mut(&mut self) -> &mut R {
        #[cfg(feature = "futures-core")]
        if let Some(lent) = self.lent.take() {
            self.reader = lent.take_back();
        }
        self.reader.as_mut().unwrap_or_else(|| unreachable!("who has borrowed the reader gives it back"))
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        #[cfg(feature = "futures-core")]
        let reader = self.reader.or_else(|| self.lent?.take_back());
        #[cfg(not(feature = "futures-core"))]
        let reader = self.reader;
        reader.unwrap_or_else(|| unreachable!("who has borrowed the reader gives it back"))
    }

    pub(super) fn note(&mut self, piece: Piece) -> Piece {
        self.has_failed = matches!(piece, Some(Err(_)));
        piece
    }

    pub(super) fn without_end(&self, mut piece: Vec<u8>) -> Vec<u8> {
        piece.pop_if(|last| *last == self.end);
        piece
    }
}

impl<R: BufRead> Split<R> {
    /// Waits for the next piece; `None` at the end, and after an error.
    ///
    /// # Errors
    /// As [`BufRead::read_until`].
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let piece = self.next_with_end().await?;
        Some(piece.map(|piece| self.without_end(piece)))
    }

    async fn next_with_end(&mut self) -> Piece {
        #[cfg(feature = "futures-core")]
        if let Some(lent) = &mut self.lent {
            let piece = lent.reading.as_mut().await;
            return self.end_loan(piece);
        }
        let Some(reader) = self.reader.as_mut().filter(|_| !self.has_failed) else {
            checkpoint().await;
            return None;
        };
        let piece = read_piece(reader, self.end).await;
        self.note(piece)
    }
}

pub(super) async fn read_piece(reader: &mut impl BufRead, end: u8) -> Piece {
    let mut piece = Vec::new();
    match reader.read_until(end, &mut piece).await {
        Ok(0) => None,
        read => Some(read.map(|_| piece)),
    }
}

impl<R: fmt::Debug> fmt::Debug for Split<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reader, end, has_failed, .. } = self;
        f.debug_struct("Split").field("reader", reader).field("end", end).field("has_failed", has_failed).finish()
    }
}

/// The lines of a [`BufRead`], see [`BufRead::lines`].
///
/// It stays on its thread, see [`Split`].
#[derive(Debug)]
pub struct Lines<R> {
    pub(super) pieces: Split<R>,
}

impl<R: BufRead> Lines<R> {
    /// Waits for the next line; `None` at the end, and after an error.
    ///
    /// # Errors
    /// As [`BufRead::read_line`]. A line that is not UTF-8 does not end the lines.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<io::Result<String>> {
        Some(self.pieces.next_with_end().await?.and_then(to_line))
    }
}

impl<R> Lines<R> {
    /// The reader. If a stream has begun a read, that is given up. No byte is lost.
    ///
    /// # Examples
    /// ```
    /// use xiio::io::{BufRead, BufReader, Read};
    ///
    /// # xiio::run(async {
    /// let mut lines = BufReader::new(&b"length: 4\nbody"[..]).lines();
    /// assert_eq!(lines.next().await.unwrap()?, "length: 4");
    /// let mut body = [0; 4];
    /// lines.get_mut().read_exact(&mut body).await?;
    /// assert_eq!(&body, b"body");
    /// # std::io::Result::Ok(()) }).unwrap();
    /// ```
    pub fn get_mut(&mut self) -> &mut R {
        self.pieces.get_mut()
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.pieces.into_inner()
    }
}

pub(super) fn to_line(piece: Vec<u8>) -> io::Result<String> {
    String::from_utf8(piece).map(without_end).map_err(|error| invalid_text(error.utf8_error()))
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
