//! A served folder for tests, with its keeper and worker as processes.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use lazy_mount::{Unmount, is_mounted, unmount};
use rustix::process::{Pid, Signal, kill_process};

/// A keeper, its worker and the folder they serve.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mount_point: PathBuf,
    pub(crate) control: PathBuf,
    keeper: Child,
    delay: String,
    mode: String,
}

impl Served {
    /// Serves files of these lengths, whose bytes are [`content`].
    pub(crate) fn start(files: &[(&str, usize)], delay_micros: &str, mode: &str) -> Self {
        Self::start_in(new_folder(files), delay_micros, mode.to_owned())
    }

    /// As `start`, with a worker that asks its own directory all the time.
    pub(crate) fn start_selfish(files: &[(&str, usize)], delay_micros: &str) -> Self {
        let folder = new_folder(files);
        let mode = format!("selfish:{}", folder.path().join("layers").display());
        Self::start_in(folder, delay_micros, mode)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, delay_micros: &str, mode: String) -> Self {
        let mount_point = folder.path().join("layers");
        let control = folder.path().join("layers.sock");
        let keeper = spawn_keeper(&folder, delay_micros, &mode);
        let served = Self {
            folder,
            mount_point,
            control,
            keeper,
            delay: delay_micros.to_owned(),
            mode,
        };
        served.wait_until_served();
        served
    }

    pub(crate) fn restart(&mut self) {
        self.keeper = spawn_keeper(&self.folder, &self.delay, &self.mode);
        self.wait_until_served();
    }

    fn wait_until_served(&self) {
        wait_until(Duration::from_secs(10), || {
            is_mounted(&self.mount_point).unwrap() && self.try_worker_pid().is_some()
        });
    }

    pub(crate) fn worker_pid(&self) -> u32 {
        let mut found = None;
        wait_until(Duration::from_secs(10), || {
            found = self.try_worker_pid();
            found.is_some()
        });
        found.unwrap()
    }

    /// The keeper's only child, if it has one at the moment.
    pub(crate) fn try_worker_pid(&self) -> Option<u32> {
        let keeper = self.keeper.id();
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
        children.unwrap().split_whitespace().next()?.parse().ok()
    }

    /// What the worker says to whoever connects: its number.
    pub(crate) fn greeting(&self) -> String {
        let mut text = String::new();
        // A worker that is killed meanwhile takes the connection with it; ask again.
        wait_until(Duration::from_secs(10), || {
            text.clear();
            let mut stream = UnixStream::connect(&self.control).unwrap();
            stream.read_to_string(&mut text).is_ok() && !text.is_empty()
        });
        text
    }

    /// Kills whichever worker runs, again and again. Returns how many were killed.
    pub(crate) fn kill_workers(&self, interval: Duration, duration: Duration) -> u32 {
        let end = Instant::now() + duration;
        let mut kill_count = 0;
        let mut previous = None;
        while Instant::now() < end {
            thread::sleep(interval);
            let worker = self.try_worker_pid();
            if let Some(pid) = worker
                && worker != previous
            {
                signal(pid, Signal::KILL);
                kill_count += 1;
                previous = worker;
            }
        }
        kill_count
    }

    pub(crate) fn stop(&mut self) {
        signal(self.keeper.id(), Signal::TERM);
        let status = self.keeper.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn kill_keeper(&mut self) {
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
    }

    pub(crate) fn second_keeper(&self) -> std::process::ExitStatus {
        spawn_keeper(&self.folder, &self.delay, &self.mode)
            .wait()
            .unwrap()
    }

    pub(crate) fn kill_keeper_and_worker(&mut self) {
        let worker = self.worker_pid();
        self.kill_keeper();
        signal(worker, Signal::KILL);
        wait_until(Duration::from_secs(5), || {
            std::fs::metadata(&self.mount_point).is_err()
        });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        signal(self.keeper.id(), Signal::TERM);
        drop(self.keeper.wait());
        drop(unmount(&self.mount_point, Unmount::Lazy));
    }
}

/// The bytes of the file `name` in tests: no two blocks are alike.
pub(crate) fn content(name: &str, offset: usize, len: usize) -> Vec<u8> {
    let salt = u64::from(name.as_bytes()[0]);
    let word_at = |index: u64| {
        let mixed = (index ^ salt << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).to_le_bytes()
    };
    let (first, last) = (offset / 8, (offset + len).div_ceil(8));
    let words: Vec<u8> = (first..last)
        .flat_map(|index| word_at(index as u64))
        .collect();
    words[offset - first * 8..][..len].to_vec()
}

pub(crate) fn wait_until(deadline: Duration, mut is_reached: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !is_reached() {
        assert!(Instant::now() < end, "waited for {deadline:?} in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

fn new_folder(files: &[(&str, usize)]) -> tempfile::TempDir {
    // Not in memory: EROFS is not mounted from tmpfs.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for (name, len) in files {
        std::fs::write(source.join(name), content(name, 0, *len)).unwrap();
    }
    folder
}

fn spawn_keeper(folder: &tempfile::TempDir, delay: &str, mode: &str) -> Child {
    let deps = std::env::current_exe().unwrap();
    let program = deps
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/serve_folder");
    Command::new(program)
        .arg("keeper")
        .arg(folder.path().join("layers"))
        .arg(folder.path().join("source"))
        .args([delay, mode])
        .spawn()
        .expect("the example serve_folder is built with the tests")
}
