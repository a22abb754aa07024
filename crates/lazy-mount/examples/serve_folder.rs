//! A keeper and a worker that serve the files of a folder as if they were layers.
//!
//! ```text
//! serve_folder keeper MOUNT_POINT FOLDER DELAY_MICROSECONDS MODE
//! serve_folder worker FOLDER DELAY_MICROSECONDS MODE FDS        (started by the keeper)
//! ```
//!
//! Each read takes at least the delay. MODE is `plain`; `broken`: what lies between 1 MiB and 1 MiB + 4 KiB
//! cannot be read; or `selfish`: a thread of the worker reads the mounted directory all the time.

use std::ffi::OsString;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lazy_mount::{
    Errno, FileEntry, Inherited, InheritedFds, Keeper, KeeperOptions, LayerFiles, OnStop,
    WorkerCommand,
};

const BROKEN: Range<u64> = 1 << 20..(1 << 20) + 4096;

struct Folder {
    files: Vec<(Vec<u8>, File, u64)>,
    delay: Duration,
    broken: Range<u64>,
}

impl Folder {
    fn open(folder: &Path, delay: Duration, broken: Range<u64>) -> std::io::Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let file = File::open(entry.path())?;
            let len = file.metadata()?.len();
            files.push((entry.file_name().as_bytes().to_vec(), file, len));
        }
        files.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(Self {
            files,
            delay,
            broken,
        })
    }

    fn index(node: u64) -> Option<usize> {
        usize::try_from(node.checked_sub(2)?).ok()
    }

    fn entry(&self, index: usize) -> Option<FileEntry> {
        let (_, _, len) = self.files.get(index)?;
        Some(FileEntry {
            node: u64::try_from(index).ok()? + 2,
            len: *len,
        })
    }
}

impl LayerFiles for Folder {
    fn lookup(&self, name: &[u8]) -> Option<FileEntry> {
        std::thread::sleep(self.delay);
        self.entry(self.files.iter().position(|(own, _, _)| own == name)?)
    }

    fn attributes(&self, node: u64) -> Option<FileEntry> {
        self.entry(Self::index(node)?)
    }

    fn names(&self) -> Vec<(Vec<u8>, u64)> {
        self.files
            .iter()
            .zip(2..)
            .map(|((name, _, _), node)| (name.clone(), node))
            .collect()
    }

    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        std::thread::sleep(self.delay);
        let end = offset + buffer.len() as u64;
        if offset < self.broken.end && end > self.broken.start {
            return Err(Errno::IO);
        }
        let file = Self::index(node)
            .and_then(|index| self.files.get(index))
            .ok_or(Errno::STALE)?;
        file.1
            .read_exact_at(buffer, offset)
            .map_err(|_unreadable| Errno::IO)?;
        Ok(buffer.len())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let texts: Vec<&str> = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .collect();
    match texts.as_slice() {
        ["keeper", mount_point, rest @ ..] => run_keeper(mount_point, rest),
        ["worker", folder, delay, mode, fds] => run_worker(Path::new(folder), delay, mode, fds),
        _ => Err("see the top of examples/serve_folder.rs".into()),
    }
}

fn run_keeper(mount_point: &str, rest: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = vec![OsString::from("worker")];
    arguments.extend(rest.iter().map(OsString::from));
    let mut control = OsString::from(mount_point);
    control.push(".sock");
    let keeper = Keeper::start(KeeperOptions {
        fuse_device: "/dev/fuse".into(),
        mount_point: mount_point.into(),
        control_socket: Some(PathBuf::from(control)),
        worker: WorkerCommand {
            program: std::env::current_exe()?,
            arguments,
        },
        on_stop: OnStop::Unmount,
    })?;
    Ok(keeper.run()?)
}

fn run_worker(
    folder: &Path,
    delay: &str,
    mode: &str,
    fds: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let Inherited { worker, control } = fds.parse::<InheritedFds>()?.open()?;
    let delay = Duration::from_micros(delay.parse()?);
    let broken = if mode == "broken" { BROKEN } else { 0..0 };
    let files = Folder::open(folder, delay, broken)?;
    if let Some(control) = control {
        std::thread::spawn(move || greet(&control));
    }
    if let Some(mount_point) = mode.strip_prefix("selfish:").map(PathBuf::from) {
        for _ in 0..4 {
            let mount_point = mount_point.clone();
            std::thread::spawn(move || {
                loop {
                    drop(std::fs::metadata(mount_point.join("no-such-layer")));
                }
            });
        }
    }
    worker.serve(Arc::new(files), 16)?;
    Ok(())
}

/// Tells everybody who connects which process answers.
fn greet(control: &std::os::unix::net::UnixListener) {
    for connection in control.incoming().flatten() {
        let mut connection = connection;
        let pid = std::process::id().to_string();
        drop(std::io::Write::write_all(&mut connection, pid.as_bytes()));
    }
}
