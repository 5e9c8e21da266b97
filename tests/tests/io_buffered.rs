//! Buffers of any size, readers made of readers, and readers behind `dyn`.

use std::io::{self, Cursor, ErrorKind, IoSlice, IoSliceMut};
use std::time::Duration;

use xiio::io::{Async, BufRead, BufReader, BufWriter, DynRead, DynReadWrite, Read, Write, copy};
use xiio::net::UnixStream;
use xiio::{sleep, task_group, timeout};

const SHORT: Duration = Duration::from_millis(2);

async fn lines_of(reader: impl BufRead) -> Vec<String> {
    let mut lines = reader.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next().await {
        found.push(line.unwrap());
    }
    found
}

#[test]
fn lines_are_the_same_whatever_a_read_gives() {
    let text = "one\r\n\ntwo and more\nthree\r";
    for capacity in [0, 1, 2, 3, 7, 100] {
        let found = xiio::run(lines_of(BufReader::with_capacity(capacity, text.as_bytes())));
        assert_eq!(found, ["one", "", "two and more", "three\r"], "with {capacity} at once");
    }
    assert_eq!(xiio::run(lines_of(text.as_bytes())), ["one", "", "two and more", "three\r"]);
    assert_eq!(xiio::run(lines_of(&mut BufReader::new(text.as_bytes()))).len(), 4);
    assert_eq!(xiio::run(lines_of(Box::new(text.as_bytes()))).len(), 4);
}

#[test]
fn a_cursor_is_read_from_its_position_on() {
    xiio::run(async {
        let mut cursor = Cursor::new(b"head\nbody\nend".to_vec());
        let mut head = String::new();
        assert_eq!(cursor.read_line(&mut head).await.unwrap(), 5);
        assert_eq!((&*head, cursor.position()), ("head\n", 5));
        let (mut body, mut rest) = ([0; 5], [0; 9]);
        let bufs = &mut [IoSliceMut::new(&mut body), IoSliceMut::new(&mut rest)];
        assert_eq!(Read::read_vectored(&mut cursor, bufs).await.unwrap(), 8);
        assert_eq!((&body[..], &rest[..3]), (&b"body\n"[..], &b"end"[..]));
        assert_eq!(Read::read(&mut cursor, &mut rest).await.unwrap(), 0);
        cursor.set_position(100);
        assert_eq!(BufRead::fill_buf(&mut cursor).await.unwrap(), b"");
        cursor.set_position(0);
        assert_eq!(lines_of(cursor).await, ["head", "body", "end"]);
    });
}

#[test]
#[should_panic(expected = "4 bytes were consumed, and 3 are buffered")]
fn no_more_than_there_is_is_consumed() {
    BufRead::consume(&mut Cursor::new(b"abc"), 4);
}

#[test]
fn nothing_comes_from_empty_and_a_sink_takes_all() {
    xiio::run(async {
        assert!(lines_of(io::empty()).await.is_empty());
        assert_eq!(copy(&mut io::empty(), &mut io::sink()).await.unwrap(), 0);
        assert_eq!(copy(&mut Cursor::new("some"), &mut io::sink()).await.unwrap(), 4);
        assert_eq!(copy(&mut &b"some"[..], &mut io::empty()).await.unwrap(), 4);
        let bufs = [IoSlice::new(b"so"), IoSlice::new(b"me")];
        assert_eq!(Write::write_vectored(&mut io::sink(), &bufs).await.unwrap(), 4);
    });
}

#[test]
fn a_limit_cuts_lines_too_and_waits_for_nothing_behind_it() {
    xiio::run(async {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(b"one\ntwo-three\n").await.unwrap();
        let mut reader = BufReader::with_capacity(2, b);
        // Nothing comes any more, and `a` stays open.
        let found = timeout(Duration::from_secs(60), lines_of((&mut reader).take(7))).await.unwrap();
        assert_eq!(found, ["one", "two"]);
        let mut line = String::new();
        assert_eq!(reader.read_line(&mut line).await.unwrap(), 7);
        assert_eq!(line, "-three\n");
    });
}

#[test]
fn a_limit_is_for_what_is_read_through_it() {
    xiio::run(async {
        let mut limited = (&b"abcd"[..]).take(2);
        assert_eq!(limited.get_ref(), b"abcd");
        assert_eq!(limited.get_mut().read(&mut [0; 1]).await.unwrap(), 1);
        let mut text = String::new();
        limited.read_to_string(&mut text).await.unwrap();
        assert_eq!((&*text, limited.limit()), ("bc", 0));
    });
}

#[test]
fn a_limit_of_nothing_is_the_end_and_reads_nothing() {
    struct Never;
    impl Read for Never {
        async fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!("nothing may be read")
        }
    }
    xiio::run(async {
        let mut nothing = BufReader::new(Never).take(0);
        assert_eq!(nothing.fill_buf().await.unwrap(), b"");
        assert_eq!(nothing.fill_until(b'x', 9).await.unwrap(), 0);
        assert_eq!(nothing.read_until(b'x', &mut Vec::new()).await.unwrap(), 0);
        nothing.set_limit(1);
        assert_eq!(nothing.limit(), 1);
    });
}

#[test]
#[should_panic(expected = "2 bytes were consumed, and 1 may be taken")]
fn no_more_than_the_limit_is_consumed() {
    (&b"abc"[..]).take(1).consume(2);
}

#[test]
fn a_line_that_is_cancelled_half_way_is_whole_the_next_time() {
    xiio::run(async {
        let (mut a, b) = UnixStream::pair().unwrap();
        let mut lines = BufReader::new(b).take(100).lines();
        a.write_all(b"half ").await.unwrap();
        drop(lines.next());
        assert!(timeout(SHORT, lines.next()).await.is_err());
        a.write_all(b"a line\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "half a line");
    });
}

#[test]
fn pieces_end_where_it_is_said_and_an_error_is_the_last() {
    xiio::run(async {
        let mut words = BufReader::new(&b"a  b"[..]).split(b' ');
        for word in [&b"a"[..], b"", b"b"] {
            assert_eq!(words.next().await.unwrap().unwrap(), word);
        }
        assert!(words.next().await.is_none());
        let mut words = BufReader::new(&b"a too-long b"[..]).max_line(4).split(b' ');
        assert_eq!(words.next().await.unwrap().unwrap(), b"a");
        assert_eq!(words.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(words.next().await.is_none());
    });
}

#[test]
fn a_piece_within_a_limit_is_none_too_long() {
    xiio::run(async {
        let mut reader = BufReader::new(&b"a long line\n"[..]).max_line(4);
        assert_eq!(reader.fill_until(b'\n', 4).await.unwrap(), 4);
        assert_eq!(reader.fill_until(b'\n', 5).await.unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn a_chain_goes_on_with_the_second_when_the_first_has_ended() {
    xiio::run(async {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(b"ne\ntwo\n").await.unwrap();
        a.close().await.unwrap();
        let mut chain = (&b"o"[..]).chain(&mut b);
        assert_eq!(chain.read(&mut []).await.unwrap(), 0);
        assert_eq!(lines_of(BufReader::new(chain)).await, ["one", "two"]);
    });
}

#[test]
fn a_chain_that_is_cancelled_loses_nothing() {
    xiio::run(async {
        let (a, b) = UnixStream::pair().unwrap();
        let (c, d) = UnixStream::pair().unwrap();
        let mut chain = a.chain(c);
        drop(chain.read(&mut [0; 8]));
        assert!(timeout(SHORT, chain.read(&mut [0; 8])).await.is_err());
        (&b).write_all(b"x").await.unwrap();
        assert_eq!(chain.read(&mut [0; 8]).await.unwrap(), 1);
        drop(b);
        assert!(timeout(SHORT, chain.read(&mut [0; 8])).await.is_err());
        (&d).write_all(b"yz").await.unwrap();
        assert_eq!(chain.read(&mut [0; 8]).await.unwrap(), 2);
    });
}

#[test]
fn a_read_behind_what_is_there_fills_the_spare_capacity() {
    xiio::run(async {
        let (a, mut b) = UnixStream::pair().unwrap();
        let mut buf = Vec::with_capacity(8);
        buf.extend(b"head ");
        let room = buf.capacity();
        assert!(timeout(SHORT, b.read_buf(&mut buf)).await.is_err());
        assert_eq!(buf, b"head ");
        (&a).write_all(b"and a body").await.unwrap();
        assert_eq!(b.read_buf(&mut buf).await.unwrap(), room - 5);
        assert_eq!(b.read_buf(&mut buf).await.unwrap(), 10 - (room - 5));
        assert_eq!(buf, b"head and a body");
        drop(a);
        assert_eq!(b.read_buf(&mut buf).await.unwrap(), 0);
        assert_eq!(buf.len(), 15);
    });
}

#[test]
fn a_buffer_holds_back_as_much_as_it_is_told() {
    let (mut reader, writer) = io::pipe().unwrap();
    xiio::run(async {
        let mut writer = BufWriter::with_capacity(4, Async::new(writer).unwrap());
        writer.write_all(b"abc").await.unwrap();
        writer.write_all(b"def").await.unwrap();
        assert_eq!(writer.buffer(), b"def");
        writer.write_all(b"longer than four").await.unwrap();
        assert_eq!(writer.buffer(), b"");
        let mut unbuffered = BufWriter::with_capacity(0, writer);
        unbuffered.write_all(b"!").await.unwrap();
        unbuffered.close().await.unwrap();
    });
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(text, "abcdeflonger than four!");
}

#[test]
fn a_stream_behind_dyn_waits_is_cancelled_and_ends() {
    xiio::run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut stream: Box<dyn DynReadWrite> = Box::new(ours);
        drop(stream.read(&mut [0; 8]));
        assert!(timeout(SHORT, stream.read(&mut [0; 8])).await.is_err());
        task_group!(|tg| {
            tg.spawn(async {
                sleep(SHORT).await;
                (&theirs).write_all(b"hello").await.unwrap();
                (&theirs).close().await.unwrap();
            });
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "hello");
        });
        stream.write_all(b"bye").await.unwrap();
        stream.flush().await.unwrap();
        stream.close().await.unwrap();
        let mut text = String::new();
        (&theirs).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye");
    });
}

#[test]
fn a_panic_behind_dyn_comes_through() {
    struct Panics;
    impl Read for Panics {
        async fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("no more")
        }
    }
    let mut reader: Box<dyn DynRead> = Box::new(Panics);
    let read = std::panic::AssertUnwindSafe(|| xiio::run(reader.read(&mut [0])));
    let payload = std::panic::catch_unwind(read).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"no more"));
}
