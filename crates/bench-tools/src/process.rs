//! Child processes: servers that end with the bench, and commands whose time is taken.
//!
//! A server is told by the kernel when the bench dies (`setpriv --pdeathsig`), so that an
//! interrupted bench leaves nothing running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server may take to start, and to end after SIGTERM.
const SERVER_DEADLINE: Duration = Duration::from_secs(30);

/// Seconds that one measured command may take: `ml` at 100 Mbit/s needs about 300.
const COMMAND_SECONDS_MAX: &str = "1800";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    output: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.log` in `directory`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("{name}.out"));
        let log = directory.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("could not start {name}: {command:?}"))?;
        Ok(Self { child, output, log })
    }

    /// Returns the process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of the output begins with `word`, and returns what follows on it.
    ///
    /// # Errors
    ///
    /// The server ended, or did not write such a line in time.
    pub fn wait_for_line(&mut self, word: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            let text = fs::read_to_string(&self.output)?;
            let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(rest) = whole_lines.lines().find_map(|line| line.strip_prefix(word)) {
                return Ok(rest.trim().to_owned());
            }
            self.check(started)?;
        }
    }

    /// Waits until `is_ready` says so.
    ///
    /// # Errors
    ///
    /// The server ended, or was not ready in time.
    pub fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_ready() {
            self.check(started)?;
        }
        Ok(())
    }

    fn check(&mut self, started: Instant) -> Result<()> {
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        if let Some(status) = self.child.try_wait()? {
            bail!("a server ended ({status}): {}", last_lines(&log()));
        }
        if started.elapsed() > SERVER_DEADLINE {
            bail!(
                "a server is not ready after {SERVER_DEADLINE:?}: {}",
                last_lines(&log())
            );
        }
        sleep(Duration::from_millis(20));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let term = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let started = Instant::now();
        while term.is_ok() && started.elapsed() < SERVER_DEADLINE {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        // Both fail only when the process is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    /// From its start to its end.
    pub wall: Duration,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command to its end and takes the time.
///
/// # Errors
///
/// It cannot be started, fails, or takes longer than a limit that no measurement should reach.
pub fn run(command: &mut Command) -> Result<Finished> {
    let started = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    let wall = started.elapsed();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        let said = last_lines(&stderr);
        bail!("{command:?} failed ({}): {said}", output.status);
    }
    Ok(Finished {
        wall,
        stdout,
        stderr,
    })
}

/// Returns a command that is killed after the limit of a measured command.
pub fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", COMMAND_SECONDS_MAX])
        .arg(program);
    command
}

/// Forgets everything that the kernel has cached of files.
///
/// # Errors
///
/// Not root, or no `/proc`.
pub fn drop_caches() -> Result<()> {
    run(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("could not drop the kernel's caches")
}

/// Reads a file to its end, so that it lies in the page cache. What is not there is left out.
pub fn warm(path: &Path) {
    if let Ok(mut file) = File::open(path) {
        // Only for its effect on the cache: a file that cannot be read shows later.
        let _copied = std::io::copy(&mut file, &mut std::io::sink());
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_says_what_it_wrote() {
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_server_is_ready_when_its_line_is_whole_and_ends_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo registry  http://x; exec sleep 60"]);
        let mut server = Server::start("a", command, directory.path()).unwrap();
        assert_eq!(server.wait_for_line("registry").unwrap(), "http://x");
        let path = PathBuf::from(format!("/proc/{}", server.id()));
        assert!(path.exists());
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_ends_early_is_an_error_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken >&2; exit 1"]);
        let mut server = Server::start("b", command, directory.path()).unwrap();
        let error = server.wait_for_line("ready").unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
