//! Serves a registry: `serve DIRECTORY [ADDRESS:PORT]`. Prints its address on the first line.
//!
//! For measurements and for the tests that kill a server. The program proper is `slipway`.

use std::io::Write;
use std::time::Duration;

use axum::serve::ListenerExt;
use registry::{Registry, RegistryOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long open connections may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: serve DIRECTORY [ADDRESS:PORT]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let registry = Registry::open(RegistryOptions::new(directory)).await?;
    let listener = TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let shutdown = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate())?;
    let listener = listener.tap_io(|stream| {
        // Small answers would wait for the client's acknowledgement otherwise.
        let _kept_slow = stream.set_nodelay(true);
    });
    let serving = axum::serve(listener, registry.router())
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let converting = registry.run_converter(shutdown.clone());
    let stopping = async {
        terminated.recv().await;
        shutdown.cancel();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        (served, ()) = async { tokio::join!(serving, converting) } => served?,
        () = stopping => {}
    }
    registry.close().await;
    Ok(())
}
