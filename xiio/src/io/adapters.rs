//! Readers made of readers.

use std::io::{self, IoSliceMut};

use super::buffered::BufRead;
use super::traits::Read;
use crate::runtime::checkpoint;

/// Reads from another reader, up to a limit. See [`Read::take`].
#[derive(Debug)]
pub struct Take<R> {
    inner: R,
    limit: u64,
}

impl<R> Take<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit }
    }

    /// How much may still be read.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Another limit, from here on.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The reader.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The reader; what is read from it directly does not count for the limit.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    fn clamp(&self, n_bytes: usize) -> usize {
        n_bytes.min(usize::try_from(self.limit).unwrap_or(usize::MAX))
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Take<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.clamp(buf.len());
        if len == 0 {
            checkpoint().await;
            return Ok(0);
        }
        let n_read = self.inner.read(&mut buf[..len]).await?;
        self.limit -= n_read as u64;
        Ok(n_read)
    }
}

impl<R: BufRead> BufRead for Take<R> {
    async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.limit == 0 {
            checkpoint().await;
            return Ok(&[]);
        }
        let limit = self.clamp(usize::MAX);
        let shown = self.inner.fill_buf().await?;
        Ok(&shown[..shown.len().min(limit)])
    }

    fn consume(&mut self, n_bytes: usize) {
        assert!(n_bytes as u64 <= self.limit, "{n_bytes} bytes were consumed, and {} may be taken", self.limit);
        self.inner.consume(n_bytes);
        self.limit -= n_bytes as u64;
    }

    async fn fill_until(&mut self, end: u8, limit: usize) -> io::Result<usize> {
        match self.clamp(limit) {
            0 => {
                checkpoint().await;
                Ok(0)
            }
            limit => self.inner.fill_until(end, limit).await,
        }
    }
}

/// Reads from one reader, and then from another. See [`Read::chain`].
///
/// To read it by lines put a [`BufReader`](super::BufReader) around: a line may begin in one and end in the other.
#[derive(Debug)]
pub struct Chain<A, B> {
    first: A,
    second: B,
    has_first_ended: bool,
}

impl<A, B> Chain<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second, has_first_ended: false }
    }

    /// Both readers.
    pub fn get_ref(&self) -> (&A, &B) {
        (&self.first, &self.second)
    }

    /// Both readers; to read from them changes what the chain gives.
    pub fn get_mut(&mut self) -> (&mut A, &mut B) {
        (&mut self.first, &mut self.second)
    }

    /// Gives both readers back.
    pub fn into_inner(self) -> (A, B) {
        (self.first, self.second)
    }
}

impl<A: Read, B: Read> Read for Chain<A, B> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            checkpoint().await;
            return Ok(0);
        }
        if !self.has_first_ended {
            match self.first.read(buf).await? {
                0 => self.has_first_ended = true,
                n_read => return Ok(n_read),
            }
        }
        self.second.read(buf).await
    }

    async fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            checkpoint().await;
            return Ok(0);
        }
        if !self.has_first_ended {
            match self.first.read_vectored(bufs).await? {
                0 => self.has_first_ended = true,
                n_read => return Ok(n_read),
            }
        }
        self.second.read_vectored(bufs).await
    }
}
