//! The command line of the bench: `slipway-bench run` and `slipway-bench proxy`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints"
)]

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bench_tools::bench::{Bench, Options, Way};
use bench_tools::proxy::Proxy;
use clap::{Args, Parser, Subcommand};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Measures how fast images start on a slow network.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the bench and print its table.
    Run(RunArguments),
    /// Forward TCP connections, each round trip longer by a fixed time.
    Proxy(ProxyArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The binary to measure.
    #[arg(long)]
    slipway: PathBuf,
    /// Directory with one OCI layout for each image.
    #[arg(long)]
    images_dir: PathBuf,
    /// Directory for everything the bench writes.
    #[arg(long)]
    work: PathBuf,
    /// Images to measure.
    #[arg(long = "image", num_args = 1.., required = true)]
    images: Vec<String>,
    /// How often each cold start is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Line rates, as `tc` writes them, separated by blanks.
    #[arg(long, default_value = "1gbit 100mbit")]
    rates: String,
    /// Milliseconds to add to each round trip, separated by blanks; 0 is always measured.
    #[arg(long, default_value = "10 30")]
    delays: String,
    /// What to measure, separated by blanks.
    #[arg(long, default_value = "containerd plain accelerated convert")]
    ways: String,
}

#[derive(Debug, Args)]
struct ProxyArguments {
    /// Address to listen on; port 0 takes a free one. The address is printed.
    #[arg(long)]
    listen: SocketAddr,
    /// Address to forward to.
    #[arg(long)]
    upstream: SocketAddr,
    /// Milliseconds that each round trip takes longer.
    #[arg(long)]
    round_trip_ms: u64,
    /// Network namespace to forward from, as a path; the listener stays in this one.
    #[arg(long)]
    upstream_namespace: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Proxy(arguments) => proxy(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: RunArguments) -> Result<ExitCode> {
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(Into::into).collect() };
    let delays_ms = words(&arguments.delays)
        .iter()
        .map(|word| {
            word.parse()
                .with_context(|| format!("`{word}` is no number of milliseconds"))
        })
        .collect::<Result<Vec<u64>>>()?;
    let ways = words(&arguments.ways)
        .iter()
        .map(|word| word.parse::<Way>())
        .collect::<Result<Vec<Way>>>()?;
    let bench = Bench::new(Options {
        slipway: arguments.slipway,
        images_dir: arguments.images_dir,
        work: arguments.work.clone(),
        images: arguments.images,
        runs: arguments.runs.max(1),
        rates: words(&arguments.rates),
        delays_ms,
        ways,
    })?;
    let report = bench.run()?;
    let table = report.to_markdown();
    println!("{table}");
    std::fs::write(arguments.work.join("result.md"), &table)?;
    std::fs::write(
        arguments.work.join("result.json"),
        serde_json::to_vec_pretty(&report)?,
    )?;
    if report.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn proxy(arguments: &ProxyArguments) -> Result<ExitCode> {
    // One thread: a network namespace belongs to a thread, and connections are made on this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let round_trip = Duration::from_millis(arguments.round_trip_ms);
        let proxy = Proxy::bind(arguments.listen, arguments.upstream, round_trip)
            .await
            .with_context(|| format!("could not listen on {}", arguments.listen))?;
        println!("proxy {}", proxy.address()?);
        std::io::stdout().flush()?;
        if let Some(path) = &arguments.upstream_namespace {
            let namespace = File::open(path)
                .with_context(|| format!("could not open namespace {}", path.display()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("could not enter namespace {}", path.display()))?;
        }
        proxy.serve().await?;
        Ok(ExitCode::SUCCESS)
    })
}
