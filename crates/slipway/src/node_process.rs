//! `slipway node`: the keeper of this machine's node.
//!
//! It finds out what the machine can do, then holds what must outlive the worker and starts the
//! worker. It stays a single thread and does nothing else.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use lazy_mount::{
    Keeper, KeeperOptions, OnStop, RoadReport, StartKeeperError, WorkerCommand, probe_roads,
};
use node::{FileLock, NodeDirectories, control::Failed, detach_dead_images, detach_images};
use tracing::info;

use crate::{
    cli::{NodeArgs, RoadChoice},
    config::Config,
    failure::Failure,
};

/// Runs the keeper until SIGTERM.
pub(crate) fn node_alone(data: &Path, args: &NodeArgs) -> Result<(), Failure> {
    check_machine(data, args)?;
    let config = Config::read(args.config.as_deref(), data).map_err(|error| Failure::of(&error))?;
    let directories = NodeDirectories::of_data(data);
    directories.create().map_err(|error| {
        Failure::while_doing(
            &error,
            format!(
                "the node's directory {} could not be made",
                directories.root().display()
            ),
        )
    })?;
    let _only_one = lock(&directories)?;
    let road = choose_road(
        &directories,
        &config.node.fuse_device,
        args.road.unwrap_or(config.node.road),
    )?;
    detach_dead_images(&directories);
    let keeper = Keeper::start(KeeperOptions {
        fuse_device: config.node.fuse_device.clone(),
        mount_point: directories.files(),
        control_socket: Some(directories.control_socket()),
        worker: worker_command(data, args, road)?,
        on_stop: OnStop::Unmount,
    })
    .map_err(|error| start_failure(&error, &config.node.fuse_device))?;
    info!(directory = %directories.root().display(), road = road.as_str(), "node starts");
    let outcome = keeper.run();
    // The worker unmounted what nobody uses, unless it was killed at the same time.
    detach_images(&directories);
    outcome.map_err(|error| Failure::of(&error))
}

fn lock(directories: &NodeDirectories) -> Result<FileLock, Failure> {
    let path = directories.root().join("lock");
    let taken = FileLock::try_take(&path).map_err(|error| {
        Failure::while_doing(&error, format!("{} could not be locked", path.display()))
    })?;
    taken.ok_or_else(|| {
        Failure::message(format!(
            "a node runs with its data in {} already",
            directories.root().display()
        ))
        .hint("stop it, or choose another directory with --data")
    })
}

/// What can be known to be missing before anything is started.
pub(crate) fn check_machine(data: &Path, args: &NodeArgs) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            Failure::message("the node part mounts filesystems and needs root")
                .hint("use sudo, or run the registry alone with `slipway registry`"),
        );
    }
    let config = Config::read(args.config.as_deref(), data).map_err(|error| Failure::of(&error))?;
    let device = &config.node.fuse_device;
    fs::metadata(device).map(drop).map_err(|error| {
        Failure::while_doing(&error, format!("the FUSE device {} is missing", device.display()))
            .hint("load the module with `modprobe fuse`, or give the container the device with `--device /dev/fuse`")
    })
}

fn choose_road(
    directories: &NodeDirectories,
    fuse_device: &Path,
    wanted: RoadChoice,
) -> Result<RoadChoice, Failure> {
    let report = probe_roads(directories.root(), fuse_device);
    let is_wanted = |road| wanted == RoadChoice::Auto || wanted == road;
    if report.file.is_ok() && is_wanted(RoadChoice::ErofsFile) {
        return Ok(RoadChoice::ErofsFile);
    }
    if report.loop_devices.is_ok() && is_wanted(RoadChoice::ErofsLoop) {
        return Ok(RoadChoice::ErofsLoop);
    }
    Err(no_road(wanted, &report))
}

fn no_road(wanted: RoadChoice, report: &RoadReport) -> Failure {
    let refusals = [
        ("erofs-file", &report.file),
        ("erofs-loop", &report.loop_devices),
    ];
    let reasons: Vec<String> = refusals
        .into_iter()
        .filter(|(name, _)| wanted == RoadChoice::Auto || wanted.as_str() == *name)
        .filter_map(|(name, probed)| {
            let error = probed.as_ref().err()?;
            Some(format!("{name}: {}", Failed::of(error).to_line()))
        })
        .collect();
    Failure::message(format!("this machine cannot mount images: {}", reasons.join("; "))).hint(
        "EROFS must be in the kernel (`modprobe erofs`): Linux 5.16 or later for erofs-loop, 6.12 or later for erofs-file, \
         which also needs a data directory that is not on tmpfs or overlayfs",
    )
}

fn worker_command(
    data: &Path,
    args: &NodeArgs,
    road: RoadChoice,
) -> Result<WorkerCommand, Failure> {
    let program = std::env::current_exe().map_err(|error: io::Error| {
        Failure::while_doing(&error, "this program does not know its own path")
    })?;
    let chosen = NodeArgs {
        config: args.config.clone(),
        road: Some(road),
    };
    let mut arguments: Vec<OsString> = vec!["node-worker".into(), "--data".into(), data.into()];
    arguments.extend(forwarded(&chosen));
    Ok(WorkerCommand { program, arguments })
}

/// The node's arguments for a program of ours.
pub(crate) fn forwarded(args: &NodeArgs) -> Vec<OsString> {
    let mut arguments = Vec::new();
    if let Some(config) = &args.config {
        let path: &PathBuf = config;
        arguments.extend(["--config".into(), path.into()]);
    }
    if let Some(road) = args.road {
        arguments.extend(["--road".into(), road.as_str().into()]);
    }
    arguments
}

fn start_failure(error: &StartKeeperError, fuse_device: &Path) -> Failure {
    if matches!(error, StartKeeperError::Mount(_)) {
        let device = fuse_device.display();
        return Failure::while_doing(error, format!("the FUSE device {device} cannot be used"))
            .hint(
                "load the module with `modprobe fuse`; in a container, allow the device and mounts",
            );
    }
    Failure::of(error)
}
