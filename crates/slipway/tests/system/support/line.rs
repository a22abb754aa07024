//! A line to a registry that breaks and dawdles.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::patience::pause;

/// What the line does to answers of the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Every other connection is cut after so many bytes.
    Cut {
        /// Bytes of answers that come through.
        after: usize,
    },
    /// Each piece of an answer is late.
    Slow {
        /// How late.
        by: Duration,
    },
}

/// Bytes carried at a time.
const PIECE_LEN: usize = 16 << 10;

/// A TCP proxy in front of a registry. Its threads end with the connections.
#[derive(Debug)]
pub(crate) struct Line {
    address: String,
    cuts: Arc<AtomicUsize>,
}

impl Line {
    /// Listens, and carries connections to `registry` and back.
    pub(crate) fn to(registry: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self {
            address: listener.local_addr().unwrap().to_string(),
            cuts: Arc::default(),
        };
        let (registry, cuts) = (registry.to_owned(), Arc::clone(&line.cuts));
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&registry)) else {
                    continue;
                };
                carry(client, server, number, fault, Arc::clone(&cuts));
            }
        });
        line
    }

    /// Address and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connections that were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn carry(
    client: TcpStream,
    server: TcpStream,
    number: usize,
    fault: Fault,
    cuts: Arc<AtomicUsize>,
) {
    let (mut questions, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        std::io::copy(&mut questions, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).ok();
    });
    thread::spawn(move || {
        let was_cut = carry_answers(&server, &client, number, fault).is_none();
        cuts.fetch_add(usize::from(was_cut), Ordering::Relaxed);
        client.shutdown(Shutdown::Both).ok();
        server.shutdown(Shutdown::Both).ok();
    });
}

/// Returns nothing if it cut the connection.
fn carry_answers(
    mut from: &TcpStream,
    mut to: &TcpStream,
    number: usize,
    fault: Fault,
) -> Option<()> {
    let mut piece = [0; PIECE_LEN];
    let mut carried = 0;
    loop {
        let len = from.read(&mut piece).unwrap_or(0);
        if len == 0 {
            return Some(());
        }
        carried += len;
        match fault {
            Fault::Cut { after } if carried > after && number.is_multiple_of(2) => return None,
            Fault::Cut { .. } => {}
            Fault::Slow { by } => pause(by),
        }
        if to.write_all(&piece[..len]).is_err() {
            return Some(());
        }
    }
}
