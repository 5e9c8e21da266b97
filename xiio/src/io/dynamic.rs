//! Readers and writers whose type is known at run time only.

use std::io;
use std::pin::Pin;

use super::traits::{Read, Write};

/// What a call through `dyn` gives.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + 'a>>;

/// Any [`Read`], for `dyn`. `dyn DynRead` is a `Read` itself, and so is a `Box` of it.
///
/// Each call allocates the future of the call that it stands for. Everything that is `Read` has it, so there is
/// nothing to implement.
///
/// # Examples
/// ```
/// use xiio::io::{BufRead, BufReader, DynRead};
///
/// async fn first_line(source: Box<dyn DynRead + '_>) -> Option<std::io::Result<String>> {
///     BufReader::new(source).lines().next().await
/// }
///
/// let text = String::from("one\ntwo");
/// assert_eq!(xiio::run(first_line(Box::new(text.as_bytes()))).unwrap().unwrap(), "one");
/// ```
pub trait DynRead {
    /// [`Read::read`].
    fn dyn_read<'a>(&'a mut self, buf: &'a mut [u8]) -> Boxed<'a, usize>;
}

/// Any [`Write`], for `dyn`. `dyn DynWrite` is a `Write` itself, and so is a `Box` of it.
///
/// See [`DynRead`].
///
/// # Examples
/// ```
/// use xiio::io::{DynWrite, Write};
///
/// async fn greet(to: &mut dyn DynWrite) -> std::io::Result<()> {
///     to.write_all(b"hello").await
/// }
///
/// let mut greeting = Vec::new();
/// xiio::run(greet(&mut greeting)).unwrap();
/// assert_eq!(greeting, b"hello");
/// ```
pub trait DynWrite {
    /// [`Write::write`].
    fn dyn_write<'a>(&'a mut self, buf: &'a [u8]) -> Boxed<'a, usize>;

    /// [`Write::flush`].
    fn dyn_flush(&mut self) -> Boxed<'_, ()>;

    /// [`Write::close`].
    fn dyn_close(&mut self) -> Boxed<'_, ()>;
}

/// Both [`DynRead`] and [`DynWrite`]: a stream that may be TLS or plain, which is known at run time only.
///
/// # Examples
/// ```
/// use xiio::io::{DynReadWrite, Read, Write};
/// use xiio::net::{TcpStream, UnixStream};
///
/// async fn connect(is_local: bool) -> std::io::Result<Box<dyn DynReadWrite>> {
///     if !is_local {
///         return Ok(Box::new(TcpStream::connect("127.0.0.1:80").await?));
///     }
///     let (ours, mut theirs) = UnixStream::pair()?;
///     theirs.write_all(b"hello").await?;
///     Ok(Box::new(ours))
/// }
///
/// # xiio::run(async {
/// let mut greeting = String::new();
/// connect(true).await?.read_to_string(&mut greeting).await?;
/// assert_eq!(greeting, "hello");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub trait DynReadWrite: DynRead + DynWrite {}

impl<R: Read> DynRead for R {
    fn dyn_read<'a>(&'a mut self, buf: &'a mut [u8]) -> Boxed<'a, usize> {
        Box::pin(self.read(buf))
    }
}

impl<W: Write> DynWrite for W {
    fn dyn_write<'a>(&'a mut self, buf: &'a [u8]) -> Boxed<'a, usize> {
        Box::pin(self.write(buf))
    }

    fn dyn_flush(&mut self) -> Boxed<'_, ()> {
        Box::pin(self.flush())
    }

    fn dyn_close(&mut self) -> Boxed<'_, ()> {
        Box::pin(self.close())
    }
}

impl<S: Read + Write> DynReadWrite for S {}

macro_rules! reads {
    ($($object:ty),*) => {$(
        impl Read for $object {
            async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.dyn_read(buf).await
            }
        }
    )*};
}

macro_rules! writes {
    ($($object:ty),*) => {$(
        impl Write for $object {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.dyn_write(buf).await
            }

            async fn flush(&mut self) -> io::Result<()> {
                self.dyn_flush().await
            }

            async fn close(&mut self) -> io::Result<()> {
                self.dyn_close().await
            }
        }
    )*};
}

reads!(dyn DynRead + '_, dyn DynReadWrite + '_);
writes!(dyn DynWrite + '_, dyn DynReadWrite + '_);
