//! `Stream` for the lines and other pieces of a reader.
//!
//! The future of a read borrows its reader. To poll it without being a future the two have to be one value, which is a
//! block on the heap.
//!
//! ```text
//!              1
//!   ┌─ here ───────▶ lent ─┐
//!   └───▲───────────────┘  │
//!       └───────── 2 ──────┘
//!
//!  1 a poll finds the reader here   `Lent::new`
//!  2 the read has its piece, or is given up by `into_inner`   `Lent::take_back`
//! ```

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::buffered::{BufRead, Lines, Piece, Split, read_piece, to_line};
use crate::runtime::poll_checkpoint;

/// A reader that is in the future of a read.
pub(super) struct Lent<R> {
    pub(super) reading: Pin<Box<dyn Future<Output = Piece>>>,
    /// Where the future puts the reader when it has ended or is dropped.
    home: Rc<Cell<Option<R>>>,
}

impl<R> Lent<R> {
    pub(super) fn take_back(self) -> Option<R> {
        drop(self.reading);
        self.home.take()
    }
}

impl<R: BufRead + 'static> Lent<R> {
    fn new(reader: R, end: u8) -> Self {
        let home = Rc::new(Cell::new(None));
        let mut borrower = Borrower { reader: Some(reader), home: Rc::clone(&home) };
        let reading = async move { read_piece(borrower.reader()?, end).await };
        Self { reading: Box::pin(reading), home }
    }
}

/// Gives a reader back in any case.
struct Borrower<R> {
    reader: Option<R>,
    home: Rc<Cell<Option<R>>>,
}

impl<R> Borrower<R> {
    /// A method and not a field access, which a `move` block would capture without the borrower.
    fn reader(&mut self) -> Option<&mut R> {
        self.reader.as_mut()
    }
}

impl<R> Drop for Borrower<R> {
    fn drop(&mut self) {
        self.home.set(self.reader.take());
    }
}

impl<R> Split<R> {
    pub(super) fn end_loan(&mut self, piece: Piece) -> Piece {
        self.reader = self.lent.take().and_then(Lent::take_back);
        self.note(piece)
    }
}

impl<R: BufRead + 'static> Split<R> {
    fn poll_next_with_end(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if self.has_failed {
            return poll_checkpoint(cx).map(|()| None);
        }
        if self.lent.is_none() {
            self.lent = self.reader.take().map(|reader| Lent::new(reader, self.end));
        }
        let Some(lent) = &mut self.lent else { unreachable!("the reader is here or lent") };
        let piece = ready!(lent.reading.as_mut().poll(cx));
        Poll::Ready(self.end_loan(piece))
    }
}

// The reader is never pinned: while it is polled it is in a box.
impl<R> Unpin for Split<R> {}

/// The pieces, see [`Split::next`]. Each costs an allocation.
///
/// Only where nothing is borrowed. `futures::stream::unfold` with `next` makes a stream of any reader.
impl<R: BufRead + 'static> Stream for Split<R> {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.poll_next_with_end(cx));
        Poll::Ready(piece.map(|piece| piece.map(|piece| self.without_end(piece))))
    }
}

impl<R> Unpin for Lines<R> {}

/// The lines, see [`Lines::next`]. Each costs an allocation.
///
/// Only where nothing is borrowed. `futures::stream::unfold` with `next` makes a stream of any reader.
///
/// # Examples
/// ```
/// use futures::StreamExt;
/// use xiio::io::{BufRead, BufReader};
///
/// let lines = BufReader::new(&b"one\n\ntwo\n"[..]).lines();
/// let full = lines.filter(|line| std::future::ready(line.as_ref().is_ok_and(|line| !line.is_empty())));
/// assert_eq!(xiio::run(full.count()), 2);
/// ```
impl<R: BufRead + 'static> Stream for Lines<R> {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.pieces.poll_next_with_end(cx));
        Poll::Ready(piece.map(|piece| piece.and_then(to_line)))
    }
}
