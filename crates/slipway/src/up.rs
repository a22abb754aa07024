//! `slipway up`: everything on one machine.
//!
//! The registry and the converter are this process; the node is one of its own ([`crate::node_child`]).

use std::{fs, path::Path};

use node::NodeDirectories;

use crate::{
    cli::ServeArgs,
    failure::Failure,
    node_child::NodeProcess,
    registry_server::{RegistryServer, announce, server_runtime, stop_signal},
    server_file::ServerFile,
    table::print_text,
};

/// Runs registry, converter and node until SIGTERM.
pub(crate) fn up(data: &Path, args: &ServeArgs) -> Result<(), Failure> {
    fs::create_dir_all(data).map_err(|error| {
        Failure::while_doing(
            &error,
            format!("the data directory {} could not be made", data.display()),
        )
        .hint("choose another with --data")
    })?;
    crate::node_process::check_machine(data, &args.node)?;
    server_runtime()?.block_on(async {
        let server = RegistryServer::start(data, &args.registry).await?;
        let outcome = with_node(data, args, &server).await;
        ServerFile::remove(data);
        server.stop().await;
        outcome
    })
}

async fn with_node(data: &Path, args: &ServeArgs, server: &RegistryServer) -> Result<(), Failure> {
    let mut node = NodeProcess::find_or_start(data, &args.node).await?;
    node.wait_until_ready(data).await?;
    announce(data, server)?;
    let socket = NodeDirectories::of_data(data).control_socket();
    print_text(&format!("node      {}\nready\n", socket.display()))?;
    tokio::select! {
        stopped = stop_signal() => stopped?,
        failure = node.ended() => return Err(failure),
    }
    node.stop(data).await
}
