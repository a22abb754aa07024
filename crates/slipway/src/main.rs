//! Slipway: container images that start before they have arrived.
//!
//! This crate is wiring: the command line, the configuration, and who is started with what. What
//! the program does is in the crates below.

mod api_client;
mod cache;
mod cli;
mod config;
mod failure;
mod image;
mod image_side;
mod node_child;
mod node_process;
mod node_worker;
mod progress;
mod registry_server;
mod repo;
mod run;
mod server_file;
mod table;
mod task;
mod timeline;
mod units;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    cli::{CacheCommand, Cli, Command, ImageCommand, RepoCommand, TaskCommand},
    failure::Failure,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    match dispatch(&cli) {
        Ok(code) => code,
        Err(failure) => failure.report(cli.output),
    }
}

/// Logs go to standard error. `SLIPWAY_LOG` chooses what is said, in the words of `tracing`'s filter.
fn start_log() {
    let filter = config::own_variable("SLIPWAY_LOG")
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("warn,slipway=info,node=info,registry=info"));
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Up(args) => up::up(&cli.data, args).map(|()| ExitCode::SUCCESS),
        Command::Registry(args) => {
            registry_server::registry_alone(&cli.data, args).map(|()| ExitCode::SUCCESS)
        }
        Command::Node(args) => {
            node_process::node_alone(&cli.data, args).map(|()| ExitCode::SUCCESS)
        }
        Command::NodeWorker(args) => {
            node_worker::node_worker(&cli.data, args).map(|()| ExitCode::SUCCESS)
        }
        Command::Run(args) => run::run(&cli.data, args),
        Command::Completion { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "slipway",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Image(_) | Command::Repo(_) | Command::Task(_) | Command::Cache(_) => {
            ask(cli).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// The commands that ask a running server, or convert, and print what comes of it.
fn ask(cli: &Cli) -> Result<(), Failure> {
    let (data, output) = (&cli.data, cli.output);
    match &cli.command {
        Command::Image(ImageCommand::Convert(args)) => image::convert(args, output),
        Command::Image(ImageCommand::List) => image::list(data, output),
        Command::Repo(RepoCommand::Accelerate { repository, switch }) => {
            repo::accelerate(data, repository, *switch, output)
        }
        Command::Repo(RepoCommand::List) => repo::list(data, output),
        Command::Task(TaskCommand::List { watch: true }) => task::watch(data, output),
        Command::Task(TaskCommand::List { watch: false }) => task::list(data, output),
        Command::Task(TaskCommand::Retry { task }) => task::retry(data, *task, output),
        Command::Cache(CacheCommand::List) => cache::list(data, output),
        Command::Cache(CacheCommand::Prune { .. }) => cache::prune(data, output),
        Command::Up(_)
        | Command::Registry(_)
        | Command::Node(_)
        | Command::NodeWorker(_)
        | Command::Run(_)
        | Command::Completion { .. } => unreachable!("dispatched before"),
    }
}
