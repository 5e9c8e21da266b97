//! What gives one packet for each read, though it is in the place of a stream: a short read does not mean that it is empty.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Duration;

use xiio::io::Read;
use xiio::net::UnixStream;
use xiio::process::{Command, Stdio};
use xiio::timeout;
use xiio_tests::os::{packet_pair, write_packets};
use xiio_tests::run;

const LONG: Duration = Duration::from_secs(20);

/// Reads two packets that come before the reader looks. It is watched then, so an event has told of both.
async fn two_packets(reader: &mut impl Read, writer: &mut File) {
    let mut buf = [0; 64];
    assert!(timeout(Duration::from_millis(1), reader.read(&mut buf)).await.is_err());
    for packet in ["one", "second"] {
        writer.write_all(packet.as_bytes()).unwrap();
    }
    for packet in ["one", "second"] {
        let n_read = timeout(LONG, reader.read(&mut buf)).await.expect("there is a packet").unwrap();
        assert_eq!(&buf[..n_read], packet.as_bytes());
    }
}

#[test]
fn socket_of_packets_in_a_stream_gives_them_all() {
    let (reader, writer) = packet_pair();
    let mut writer = File::from(writer);
    run(async {
        let mut reader = UnixStream::try_from(reader).unwrap();
        two_packets(&mut reader, &mut writer).await;
        let mut clone = reader.try_clone().unwrap();
        two_packets(&mut clone, &mut writer).await;
    });
}

#[test]
fn pipe_to_which_a_child_writes_packets_gives_them_all() {
    run(async {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // What the child would write with `O_DIRECT` set on its stdout.
        let stdout = format!("/proc/{}/fd/1", child.id());
        let mut writer = OpenOptions::new().write(true).open(stdout).unwrap();
        write_packets(&writer);
        let mut reader = child.stdout.take().unwrap();
        two_packets(&mut reader, &mut writer).await;
        drop(child.stdin.take());
        child.wait().await.unwrap();
    });
}
