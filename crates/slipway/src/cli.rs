//! The command line: what can be said, and its help.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{DEFAULT_DATA_DIRECTORY, DEFAULT_LISTEN};

/// Start container images before they have arrived
///
/// Slipway is a container registry that converts each pushed image so that it can be started on demand, and the node part
/// that starts such images while their data is still being loaded.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Directory of the server: where its data is, and where commands find it
    #[arg(long, global = true, env = "SLIPWAY_DATA", default_value = DEFAULT_DATA_DIRECTORY, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  slipway up --data /srv/slipway --listen 127.0.0.1:5000
  slipway --data /srv/slipway repo accelerate ml/torch on
  skopeo copy --dest-tls-verify=false oci:torch docker://127.0.0.1:5000/ml/torch:2.15
  slipway --data /srv/slipway task list --watch
  slipway --data /srv/slipway run 127.0.0.1:5000/ml/torch:2.15_accelerated python train.py";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// For programs: one JSON document on standard output.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run registry, converter and node on this machine
    ///
    /// Everything is kept under the directory given by --data; a second start finds it again. Addresses are printed, then the
    /// line "ready". SIGTERM stops cleanly.
    #[command(after_help = "Example:\n  slipway up --data /srv/slipway --listen 127.0.0.1:5000")]
    Up(ServeArgs),
    /// Run the registry and its converter alone
    #[command(
        after_help = "Example:\n  slipway registry --data /srv/registry --listen 0.0.0.0:5000"
    )]
    Registry(RegistryArgs),
    /// Run the node part alone
    ///
    /// Needs root, /dev/fuse and a kernel with EROFS.
    #[command(after_help = "Example:\n  slipway node --data /var/lib/slipway")]
    Node(NodeArgs),
    /// Serve a node's files; started by `slipway node`
    #[command(hide = true)]
    NodeWorker(NodeWorkerArgs),
    /// Start a container, on demand if its image is accelerated
    ///
    /// The image is named with its registry: HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]. The exit code is the container's.
    #[command(
        after_help = "Example:\n  slipway run 127.0.0.1:5000/ml/torch:2.15_accelerated python -c 'import torch'"
    )]
    Run(RunArgs),
    /// Convert and list images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Change the settings of repositories
    #[command(subcommand)]
    Repo(RepoCommand),
    /// See conversion tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// See and empty the node's cache
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  slipway completion bash > /etc/bash_completion.d/slipway")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where to listen.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryArgs {
    /// Address and port of the registry; port 0 takes a free one
    #[arg(long, default_value = DEFAULT_LISTEN, value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
}

/// A registry and a node.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// What can be said of a node.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Configuration file; default: DIR/slipway.toml if it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the kernel reads layers; overrides the configuration
    #[arg(long, value_enum, value_name = "ROAD")]
    pub(crate) road: Option<RoadChoice>,
}

/// What the keeper tells its worker.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeWorkerArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Numbers of the inherited descriptors
    pub(crate) inherited: String,
}

/// How the kernel reads layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RoadChoice {
    /// The best that works here.
    Auto,
    /// EROFS mounted from files (Linux 6.12 and later).
    ErofsFile,
    /// EROFS through loop devices.
    ErofsLoop,
}

impl RoadChoice {
    /// The word for it on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ErofsFile => "erofs-file",
            Self::ErofsLoop => "erofs-loop",
        }
    }
}

/// What can be said of a container.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Network of the container
    #[arg(long, value_enum, default_value_t = NetworkChoice::Host)]
    pub(crate) network: NetworkChoice,
    /// Show a directory or file of this machine in the container
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Set a variable; a name alone takes the value from here
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User in the container
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container when it ends; always so, taken for the sake of habit
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// Print where the time went, on standard error
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "text", require_equals = true, value_name = "FORMAT")]
    pub(crate) timeline: Option<OutputFormat>,
    /// OCI runtime
    #[arg(
        long,
        env = "SLIPWAY_RUNTIME",
        default_value = "runc",
        value_name = "PROGRAM"
    )]
    pub(crate) runtime: PathBuf,
    /// Image: HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]
    pub(crate) image: String,
    /// Command instead of the image's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// This machine's.
    Host,
    /// Loopback alone.
    None,
}

/// Commands on images.
#[derive(Debug, Subcommand)]
#[expect(clippy::doc_markdown, reason = "help text is shown as it is")]
pub(crate) enum ImageCommand {
    /// Convert an image into an accelerated one
    ///
    /// Each side is docker://HOST[:PORT]/REPOSITORY:TAG or oci:DIRECTORY:TAG. The result is proven: each stored layer is decoded
    /// again and its SHA-256 is compared with the image's configuration.
    #[command(
        after_help = "Example:\n  slipway image convert oci:torch:latest docker://127.0.0.1:5000/ml/torch:2.15_fast"
    )]
    Convert(ConvertArgs),
    /// List the images of the registry
    #[command(after_help = "Example:\n  slipway --data /srv/slipway image list --output json")]
    List,
}

/// What can be said of a conversion.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The image to convert
    pub(crate) source: String,
    /// Where the accelerated image goes
    pub(crate) target: String,
    /// Compression level of the layers, 1 (fast) to 19 (small)
    #[arg(long, default_value_t = convert::ConvertOptions::in_dir("").zstd_level, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) level: i32,
    /// Directory for temporary files, which take as much as the largest layer
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
}

/// Commands on repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Switch image acceleration of a repository
    ///
    /// While it is on, each pushed tag is converted on its own; the result is the tag with `_accelerated` behind it.
    #[command(after_help = "Example:\n  slipway --data /srv/slipway repo accelerate ml/torch on")]
    Accelerate {
        /// The repository
        repository: String,
        /// The switch
        switch: Switch,
    },
    /// List the repositories
    #[command(after_help = "Example:\n  slipway --data /srv/slipway repo list")]
    List,
}

/// A switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Commands on tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// List the conversion tasks
    #[command(after_help = "Example:\n  slipway --data /srv/slipway task list --watch")]
    List {
        /// Show the progress until no task is waiting or running
        #[arg(long)]
        watch: bool,
    },
    /// Put a failed task back into the queue
    #[command(after_help = "Example:\n  slipway --data /srv/slipway task retry 7")]
    Retry {
        /// Number of the task
        task: i64,
    },
}

/// Commands on the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List what the node's cache holds
    #[command(after_help = "Example:\n  slipway --data /srv/slipway cache list")]
    List,
    /// Remove the images that no container uses
    #[command(after_help = "Example:\n  slipway --data /srv/slipway cache prune")]
    Prune {
        /// The same; every unused image is removed anyway
        #[arg(long, hide = true)]
        all: bool,
    },
}
