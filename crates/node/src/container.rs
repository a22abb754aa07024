//! One container: its directories, its root filesystem, its run.
//!
//! A container belongs to the program that started it. Its root is overlayfs: an upper directory
//! of its own over the mounted tree of its image.
//!
//! # Invariants
//!
//! 1. As long as the container's process lives, `lock` is locked: the descriptor is inherited by
//!    the OCI runtime, so even killing us does not make the directory look abandoned.
//! 2. A directory whose lock is free belongs to nobody and can be removed by anybody.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use lazy_mount::{MountOverlayError, OverlayLayout, Unmount, is_mounted, mount_overlay, unmount};
use oci::{Digest, ImageConfig, ParseConfigError};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use tracing::warn;

pub use crate::runtime_spec::{Access, Network, SpecError, Terminal, Volume};
use crate::{
    Stopwatch,
    control::Prepared,
    directories::NodeDirectories,
    lock::FileLock,
    runtime_spec::{SpecRequest, runtime_spec},
    user::{ResolveUserError, resolve_user},
};

/// How often a name is claimed: once more than somebody can be removing what a dead container left.
const CLAIM_ATTEMPTS_MAX: u32 = 4;

/// Pause between two claims: about what removing an abandoned directory takes.
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// What the caller wants of a container.
#[derive(Debug, Clone)]
pub struct ContainerRequest {
    /// Name; must be new.
    pub id: String,
    /// Command that replaces the image's `Cmd`; empty: the image's own.
    pub command: Vec<String>,
    /// `NAME=value`, on top of the image's.
    pub env: Vec<String>,
    /// Working directory that replaces the image's.
    pub working_dir: Option<String>,
    /// User that replaces the image's: `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// The network.
    pub network: Network,
    /// What of the machine it sees.
    pub volumes: Vec<Volume>,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
}

/// A container that was created and not yet removed.
#[derive(Debug)]
pub struct Container {
    id: String,
    directory: PathBuf,
    lock: FileLock,
}

/// How a container's run went.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// How its process ended.
    pub status: ExitStatus,
    /// Milliseconds from the start of the runtime to the first byte of output, if it was watched.
    pub first_output_ms: Option<f64>,
    /// Milliseconds from the start of the runtime to its end.
    pub exit_ms: f64,
}

/// What becomes of the container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// It goes where ours goes.
    Inherit,
    /// It goes where ours goes, through us, so that the first byte is seen.
    Watch,
}

/// Why a container was not created.
#[derive(Debug, Error)]
pub enum CreateContainerError {
    /// A directory or file of it.
    #[error("{} could not be written", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The image's configuration.
    #[error("the configuration of image {manifest} could not be read")]
    ReadConfig {
        /// Digest of the image's manifest.
        manifest: Digest,
        /// The cause.
        source: io::Error,
    },
    /// The image's configuration.
    #[error("the configuration of image {manifest} cannot be understood")]
    ParseConfig {
        /// Digest of the image's manifest.
        manifest: Digest,
        /// The cause.
        source: ParseConfigError,
    },
    /// Its root filesystem.
    #[error("the root filesystem of container {id} could not be mounted")]
    Mount {
        /// The container.
        id: String,
        /// The cause.
        source: Box<MountOverlayError>,
    },
    /// Its user.
    #[error("the user of container {id} could not be found out")]
    User {
        /// The container.
        id: String,
        /// The cause.
        source: ResolveUserError,
    },
    /// Its command.
    #[error("container {id} cannot be described")]
    Spec {
        /// The container.
        id: String,
        /// The cause.
        source: SpecError,
    },
    /// The name is taken.
    #[error("there is a container {id} already")]
    Taken {
        /// The container.
        id: String,
    },
}

/// Why a container did not run.
#[derive(Debug, Error)]
pub enum RunContainerError {
    /// The OCI runtime is not there or cannot be started.
    #[error("the OCI runtime {} could not be started", runtime.display())]
    StartRuntime {
        /// The program.
        runtime: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its end was not seen.
    #[error("the end of container {id} could not be awaited")]
    Wait {
        /// The container.
        id: String,
        /// The cause.
        source: io::Error,
    },
}

impl CreateContainerError {
    /// Says whether the next attempt to claim the name can go otherwise.
    fn may_pass(&self) -> bool {
        match self {
            Self::Taken { .. } => true,
            Self::Write { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::ReadConfig { .. }
            | Self::ParseConfig { .. }
            | Self::Mount { .. }
            | Self::User { .. }
            | Self::Spec { .. } => false,
        }
    }
}

impl Container {
    /// Makes the directories, mounts the root filesystem and writes the runtime's bundle.
    ///
    /// # Errors
    ///
    /// [`CreateContainerError`]; nothing is left behind.
    pub fn create(
        directories: &NodeDirectories,
        image: &Prepared,
        request: &ContainerRequest,
    ) -> Result<Self, CreateContainerError> {
        let container = Self::claim(directories, image, &request.id)?;
        match container.furnish(image, request) {
            Ok(()) => Ok(container),
            Err(error) => {
                container.remove();
                Err(error)
            }
        }
    }

    fn claim(
        directories: &NodeDirectories,
        image: &Prepared,
        id: &str,
    ) -> Result<Self, CreateContainerError> {
        let mut attempt = 1;
        loop {
            match Self::try_claim(directories, image, id) {
                // Somebody may be removing an abandoned directory of this name.
                Err(error) if attempt < CLAIM_ATTEMPTS_MAX && error.may_pass() => {
                    std::thread::sleep(CLAIM_PAUSE);
                    attempt += 1;
                }
                claimed => return claimed,
            }
        }
    }

    fn try_claim(
        directories: &NodeDirectories,
        image: &Prepared,
        id: &str,
    ) -> Result<Self, CreateContainerError> {
        let directory = directories.containers().join(id);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CreateContainerError::Write { path, source }
        };
        let taken = || CreateContainerError::Taken { id: id.to_owned() };
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        let lock_path = directory.join("lock");
        let lock = FileLock::try_take(&lock_path)
            .map_err(at(&lock_path))?
            .ok_or_else(taken)?;
        let image_path = directory.join("image");
        if image_path.exists() {
            // Invariant 2: nobody's. What it wrote must not show in ours.
            remove_directory(&directory);
            return Err(taken());
        }
        fs::write(&image_path, image.manifest.to_string()).map_err(at(&image_path))?;
        Ok(Self {
            id: id.to_owned(),
            directory,
            lock,
        })
    }

    fn furnish(
        &self,
        image: &Prepared,
        request: &ContainerRequest,
    ) -> Result<(), CreateContainerError> {
        for name in ["upper", "work", "root"] {
            let path = self.directory.join(name);
            fs::create_dir_all(&path)
                .map_err(|source| CreateContainerError::Write { path, source })?;
        }
        mount_overlay(OverlayLayout {
            lower: &image.root,
            upper: &self.directory.join("upper"),
            work: &self.directory.join("work"),
            target: &self.root(),
        })
        .map_err(|source| CreateContainerError::Mount {
            id: self.id.clone(),
            source: Box::new(source),
        })?;
        self.write_bundle(image, request)
    }

    fn write_bundle(
        &self,
        image: &Prepared,
        request: &ContainerRequest,
    ) -> Result<(), CreateContainerError> {
        let manifest = image.manifest;
        let bytes = fs::read(&image.config)
            .map_err(|source| CreateContainerError::ReadConfig { manifest, source })?;
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| CreateContainerError::ParseConfig { manifest, source })?
            .config
            .unwrap_or_default();
        let user_text = request.user.as_deref().unwrap_or(&config.user);
        let user =
            resolve_user(&self.root(), user_text).map_err(|source| CreateContainerError::User {
                id: self.id.clone(),
                source,
            })?;
        let spec = runtime_spec(
            &config,
            &SpecRequest {
                root: self.root(),
                id: self.id.clone(),
                command: request.command.clone(),
                env: request.env.clone(),
                working_dir: request.working_dir.clone(),
                user,
                network: request.network,
                volumes: with_resolver_files(request),
                terminal: request.terminal,
            },
        )
        .map_err(|source| CreateContainerError::Spec {
            id: self.id.clone(),
            source,
        })?;
        let path = self.directory.join("config.json");
        fs::write(&path, spec.to_string())
            .map_err(|source| CreateContainerError::Write { path, source })
    }

    /// Where its root filesystem is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Runs the container's process to its end. SIGTERM, SIGINT and SIGHUP that reach us are passed on.
    ///
    /// Dropping the future leaves the container running.
    ///
    /// # Errors
    ///
    /// [`RunContainerError`].
    pub async fn run(&self, runtime: &Path, output: Output) -> Result<Finished, RunContainerError> {
        let watch = Stopwatch::start();
        let mut child = self.start(runtime, output)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, first_out, first_err) = tokio::join!(
            wait_passing_signals(&mut child),
            relay(stdout, tokio::io::stdout(), watch),
            relay(stderr, tokio::io::stderr(), watch),
        );
        let status = status.map_err(|source| RunContainerError::Wait {
            id: self.id.clone(),
            source,
        })?;
        let first_output_ms = [first_out, first_err]
            .into_iter()
            .flatten()
            .reduce(f64::min);
        Ok(Finished {
            status,
            first_output_ms,
            exit_ms: watch.elapsed_ms(),
        })
    }

    fn start(&self, runtime: &Path, output: Output) -> Result<Child, RunContainerError> {
        let failed = |source| RunContainerError::StartRuntime {
            runtime: runtime.to_owned(),
            source,
        };
        // Invariant 1: the runtime inherits the lock.
        fcntl_setfd(&self.lock, FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        let mut command = Command::new(runtime);
        command
            .arg("--root")
            .arg(self.directory.join("runtime"))
            .arg("run");
        command.arg("--bundle").arg(&self.directory).arg(&self.id);
        if output == Output::Watch {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        command.spawn().map_err(failed)
    }

    /// Unmounts and removes everything. What cannot be removed now is logged and found again by
    /// the next prune.
    pub fn remove(self) {
        remove_directory(&self.directory);
    }
}

/// Digests of the images that containers use now; directories that belong to nobody are removed.
///
/// # Errors
///
/// The operating system's error if the containers cannot be listed.
pub(crate) fn sweep(directories: &NodeDirectories) -> io::Result<Vec<Digest>> {
    let mut used = Vec::new();
    for entry in fs::read_dir(directories.containers())? {
        let directory = entry?.path();
        match FileLock::try_take(&directory.join("lock")) {
            Ok(Some(_abandoned)) => remove_directory(&directory),
            Ok(None) => used.extend(image_of(&directory)),
            Err(error) => {
                warn!(directory = %directory.display(), %error, "container lock not read");
            }
        }
    }
    Ok(used)
}

fn image_of(directory: &Path) -> Option<Digest> {
    fs::read_to_string(directory.join("image"))
        .ok()?
        .parse()
        .ok()
}

fn remove_directory(directory: &Path) {
    let root = directory.join("root");
    if is_mounted(&root).unwrap_or(false)
        && let Err(error) = unmount(&root, Unmount::Lazy)
    {
        warn!(root = %root.display(), %error, "container root not unmounted, its directory is kept");
        return;
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        warn!(directory = %directory.display(), %error, "container directory not removed");
    }
}

/// The machine's resolver files, if the container shares the machine's network.
fn with_resolver_files(request: &ContainerRequest) -> Vec<Volume> {
    let mut volumes = request.volumes.clone();
    if request.network == Network::Host {
        let files = ["/etc/resolv.conf", "/etc/hosts"].map(PathBuf::from);
        volumes.extend(
            files
                .into_iter()
                .filter(|file| file.is_file())
                .map(|file| Volume {
                    source: file.clone(),
                    target: file,
                    access: Access::Read,
                }),
        );
    }
    volumes
}

async fn wait_passing_signals(child: &mut Child) -> io::Result<ExitStatus> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return status,
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
            _ = hang_up.recv() => Signal::HUP,
        };
        let number = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = number
            && let Err(errno) = kill_process(pid, signal)
        {
            warn!(%errno, ?signal, "signal not passed on");
        }
    }
}

/// Copies `from` to `to` until it ends. Returns when its first byte came, in milliseconds of `watch`.
async fn relay(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    watch: Stopwatch,
) -> Option<f64> {
    /// Bytes copied at a time: a pipe's usual capacity.
    const BUFFER_LEN: usize = 64 << 10;
    let mut from = from?;
    let mut first = None;
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = from.read(&mut buffer).await.unwrap_or(0);
        if len == 0 {
            return first;
        }
        first.get_or_insert_with(|| watch.elapsed_ms());
        // Whoever reads us may be gone; the container goes on, as it would with a closed pipe of its own.
        if to.write_all(&buffer[..len]).await.is_err() || to.flush().await.is_err() {
            return first;
        }
    }
}
