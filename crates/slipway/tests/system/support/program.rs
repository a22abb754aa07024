//! Programs that run to their end, with an end to the waiting.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::patience::wait_for;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {self:#?}"))
    }

    /// Standard output of a program that must have succeeded.
    pub(crate) fn expect_success(self) -> String {
        assert!(self.status.success(), "{self:#?}");
        self.stdout
    }

    /// Standard error of a program that must have failed with exit code 1.
    pub(crate) fn expect_failure(self) -> String {
        assert_eq!(self.code(), 1, "{self:#?}");
        self.stderr
    }

    /// Standard output of a program that must have succeeded, as JSON.
    pub(crate) fn json(self) -> Value {
        let text = self.expect_success();
        serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{cause}: {text}"))
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    name: String,
}

impl Running {
    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        let status = wait_for(&self.name, || self.child.try_wait().unwrap());
        let text = |thread: &mut Option<JoinHandle<String>>| thread.take().unwrap().join().unwrap();
        Outcome {
            status,
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.stdout.is_some() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Starts a program.
pub(crate) fn start(command: &mut Command) -> Running {
    let name = format!("the end of {command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    Running {
        child,
        stdout: Some(stdout),
        stderr: Some(stderr),
        name,
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome {
    start(Command::new(program).args(arguments)).wait()
}

/// The program under test, with an environment that says nothing about it.
pub(crate) fn slipway<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command
        .args(arguments)
        .env_remove("SLIPWAY_DATA")
        .env_remove("SLIPWAY_RUNTIME")
        .env_remove("SLIPWAY_LOG");
    command
}

/// Pushes `tag` of an OCI layout to `image` of a registry, as any user would.
pub(crate) fn skopeo_push(layout: &Path, tag: &str, image: &str) -> Outcome {
    let mut source = OsString::from("oci:");
    source.push(layout);
    source.push(format!(":{tag}"));
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--quiet", "--preserve-digests"])
        .arg("--dest-tls-verify=false")
        .arg(source)
        .arg(format!("docker://{image}"));
    start(&mut command).wait()
}
