//! The registry and its converter as a server of this process.

use std::{net::SocketAddr, path::Path};

use axum::serve::ListenerExt;
use registry::{Registry, RegistryOptions};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{cli::RegistryArgs, failure::Failure, server_file::ServerFile, table::print_text};

/// A registry that listens, and its converter.
#[derive(Debug)]
pub(crate) struct RegistryServer {
    address: SocketAddr,
    registry: Registry,
    stop: CancellationToken,
    server: JoinHandle<()>,
    converter: JoinHandle<()>,
}

impl RegistryServer {
    /// Opens the data directory and listens.
    ///
    /// # Errors
    ///
    /// What could not be opened or listened on.
    pub(crate) async fn start(data: &Path, args: &RegistryArgs) -> Result<Self, Failure> {
        let directory = data.join("registry");
        let registry = Registry::open(RegistryOptions::new(&directory))
            .await
            .map_err(|error| {
                Failure::while_doing(
                    &error,
                    format!(
                        "the registry in {} could not be opened",
                        directory.display()
                    ),
                )
            })?;
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            Failure::while_doing(
                &error,
                format!("the registry cannot listen on {}", args.listen),
            )
            .hint("choose another address with --listen; port 0 takes a free one")
        })?;
        let address = listener.local_addr().map_err(|error| Failure::of(&error))?;
        let stop = CancellationToken::new();
        let converter = tokio::spawn(convert_until(registry.clone(), stop.clone()));
        let server = tokio::spawn(serve(registry.clone(), listener, stop.clone()));
        Ok(Self {
            address,
            registry,
            stop,
            server,
            converter,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, lets running requests end, and puts a running conversion back into its queue.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in [self.server, self.converter] {
            if let Err(error) = task.await {
                error!(%error, "a part of the registry ended badly");
            }
        }
        self.registry.close().await;
    }
}

async fn convert_until(registry: Registry, stop: CancellationToken) {
    registry.run_converter(stop).await;
}

async fn serve(registry: Registry, listener: TcpListener, stop: CancellationToken) {
    // An answer's last piece must not wait for the acknowledgement of the one before it.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection without TCP_NODELAY");
        }
    });
    let served =
        axum::serve(listener, registry.router()).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        error!(%error, "the registry stopped listening");
    }
}

/// `slipway registry`: the registry without a node.
pub(crate) fn registry_alone(data: &Path, args: &RegistryArgs) -> Result<(), Failure> {
    server_runtime()?.block_on(async {
        let server = RegistryServer::start(data, args).await?;
        announce(data, &server)?;
        print_text("ready\n")?;
        stop_signal().await?;
        ServerFile::remove(data);
        server.stop().await;
        Ok(())
    })
}

/// Prints where the registry is, and writes it down for the other commands.
pub(crate) fn announce(data: &Path, server: &RegistryServer) -> Result<(), Failure> {
    let file = ServerFile {
        registry: server.address(),
        pid: std::process::id(),
    };
    file.write(data).map_err(|error| {
        Failure::while_doing(
            &error,
            format!(
                "the server's address could not be written to {}",
                data.display()
            ),
        )
    })?;
    print_text(&format!("registry  http://{}\n", server.address()))
}

/// Waits until somebody wants us to stop.
pub(crate) async fn stop_signal() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::while_doing(&error, "signals cannot be received");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A runtime for a server: a thread for each core.
pub(crate) fn server_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::while_doing(&error, "the program could not start its event loop"))
}
