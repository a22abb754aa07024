//! A TCP proxy that makes each round trip longer and nothing else.
//!
//! Each direction is delayed by half of the round trip. A new connection costs its client one round
//! trip before its first byte arrives, as a handshake does. Throughput is not limited: bytes wait
//! in a queue, in order, each until its own time.
//!
//! # What is not here
//!
//! Loss, jitter, and the slow start of a congestion window: the figures are those of a good line.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Connections at a time; the next one waits in the listener's queue.
const CONNECTIONS_MAX: usize = 512;

/// Most bytes read at once.
const PIECE_LEN_MAX: usize = 64 * 1024;

/// Pieces that wait in one direction of a connection: 16 MiB, which is 1 Gbit/s for 130 ms. A full
/// queue makes the sender wait, as a full window does.
const PIECES_MAX: usize = 256;

/// A listening proxy.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    upstream: SocketAddr,
    round_trip: Duration,
}

impl Proxy {
    /// Listens on `address`. Connections are forwarded to `upstream` once [`Proxy::serve`] runs.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        upstream: SocketAddr,
        round_trip: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            upstream,
            round_trip,
        })
    }

    /// Returns the address that is listened on.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Forwards connections until it is dropped. A connection that fails ends alone.
    ///
    /// # Errors
    ///
    /// The listener fails.
    pub async fn serve(self) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            if connections.len() >= CONNECTIONS_MAX {
                let _ended = connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            let (client, _) = self.listener.accept().await?;
            connections.spawn(forward(client, self.upstream, self.round_trip));
        }
    }
}

/// Forwards one connection until both directions have ended or one has failed.
async fn forward(client: TcpStream, upstream: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let accepted = Instant::now();
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let one_way = round_trip / 2;
    tokio::try_join!(
        delayed(from_client, to_server, one_way, accepted + round_trip),
        delayed(from_server, to_client, one_way, accepted),
    )?;
    Ok(())
}

/// Copies one direction, each piece `delay` after it was read and not before `start` + `delay`.
async fn delayed(
    source: OwnedReadHalf,
    target: OwnedWriteHalf,
    delay: Duration,
    start: Instant,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::try_join!(
        read_pieces(source, sender, delay, start),
        write_pieces(receiver, target)
    )?;
    Ok(())
}

async fn read_pieces(
    mut source: OwnedReadHalf,
    sender: Sender<(Instant, Bytes)>,
    delay: Duration,
    start: Instant,
) -> io::Result<()> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_LEN_MAX);
        if source.read_buf(&mut piece).await? == 0 {
            return Ok(());
        }
        let due = Instant::now().max(start) + delay;
        if sender.send((due, piece.freeze())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write_pieces(
    mut receiver: Receiver<(Instant, Bytes)>,
    mut target: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some((due, piece)) = receiver.recv().await {
        sleep_until(due).await;
        target.write_all(&piece).await?;
    }
    target.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server that sends back what it gets, and a proxy before it.
    async fn echo_behind_proxy(round_trip: Duration) -> SocketAddr {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = echo.accept().await {
                let (mut source, mut target) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut source, &mut target).await });
            }
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let proxy = Proxy::bind(any, upstream, round_trip).await.unwrap();
        let address = proxy.address().unwrap();
        tokio::spawn(proxy.serve());
        address
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_and_the_end_passes_too() {
        let address = echo_behind_proxy(Duration::from_millis(2)).await;
        let sent: Vec<u8> = (0..3_000_000_u32)
            .map(|index| (index % 251) as u8)
            .collect();
        let (mut source, mut target) = TcpStream::connect(address).await.unwrap().into_split();
        let expected = sent.clone();
        tokio::spawn(async move {
            target.write_all(&sent).await.unwrap();
            target.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        source.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn a_question_takes_a_round_trip_and_the_first_one_two() {
        let round_trip = Duration::from_millis(40);
        let address = echo_behind_proxy(round_trip).await;
        let started = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut byte = [7];
        for expected in [2, 3, 4] {
            stream.write_all(&byte).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
            assert!(started.elapsed() >= round_trip * expected);
        }
    }
}
