//! What the figures depend on besides the code: the machine, and how much memory a process takes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{major, minor};
use serde::Serialize;

use crate::process::run;

/// The machine that a bench ran on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Number of cores.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Read-ahead of the device under the work directory, in KiB; none where it has no queue.
    pub read_ahead_kib: Option<u64>,
    /// Commit that was measured, with `+` when there were changes.
    pub commit: String,
    /// Versions of the programs beside it.
    pub programs: Vec<String>,
}

impl Machine {
    /// Looks at this machine.
    ///
    /// # Errors
    ///
    /// `/proc` cannot be read.
    pub fn observe(work: &Path) -> Result<Self> {
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory_kib =
            kib_field(&memory, "MemTotal:").context("/proc/meminfo has no MemTotal")?;
        let first_line = |program: &str, argument: &str| {
            let version = run(Command::new(program).arg(argument)).ok()?.stdout;
            version.lines().next().map(str::to_owned)
        };
        let programs = [
            ("containerd", "--version"),
            ("runc", "--version"),
            ("skopeo", "--version"),
        ];
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory_kib / 1024,
            read_ahead_kib: read_ahead_kib(work),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            programs: programs
                .iter()
                .filter_map(|(program, argument)| first_line(program, argument))
                .collect(),
        })
    }
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| Some(run(Command::new("git").args(arguments)).ok()?.stdout);
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(commit + if changed { "+" } else { "" })
}

fn read_ahead_kib(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    let id = format!("{}:{}", major(device), minor(device));
    let directory = Path::new("/sys/dev/block").join(id);
    // A partition has no queue of its own; its disk, the directory above, has.
    ["queue/read_ahead_kb", "../queue/read_ahead_kb"]
        .iter()
        .find_map(|name| {
            fs::read_to_string(directory.join(name))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
}

/// Returns the most memory, in bytes, that one process below `ancestor` has had since
/// [`reset_memory_peaks`], among those that run the program `program`.
pub fn memory_peak(ancestor: u32, program: &Path) -> Option<u64> {
    programs_below(ancestor, program)
        .iter()
        .filter_map(|id| {
            kib_field(
                &fs::read_to_string(format!("/proc/{id}/status")).ok()?,
                "VmHWM:",
            )
        })
        .max()
        .map(|kib| kib * 1024)
}

/// Makes the processes below `ancestor` forget how much memory they have had.
pub fn reset_memory_peaks(ancestor: u32, program: &Path) {
    for id in programs_below(ancestor, program) {
        // A process that ended meanwhile has nothing to forget.
        let _ended = fs::write(format!("/proc/{id}/clear_refs"), "5");
    }
}

/// Returns `ancestor` and every process below it that runs `program`.
fn programs_below(ancestor: u32, program: &Path) -> Vec<u32> {
    let mut family = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let children = format!("/proc/{parent}/task");
        for thread in fs::read_dir(children).into_iter().flatten().flatten() {
            let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family.extend(
                list.split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    family.retain(|id| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == program));
    family
}

fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_kib_is_read() {
        assert_eq!(
            kib_field("VmPeak: 9 kB\nVmHWM:\t  123 kB\n", "VmHWM:"),
            Some(123)
        );
        assert_eq!(kib_field("", "VmHWM:"), None);
    }

    #[test]
    fn this_process_is_found_by_its_program() {
        let program = std::env::current_exe().unwrap();
        assert!(memory_peak(std::process::id(), &program).unwrap() > 0);
        assert_eq!(memory_peak(std::process::id(), Path::new("/none")), None);
    }

    #[test]
    fn the_machine_is_described() {
        let machine = Machine::observe(Path::new("/")).unwrap();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
    }
}
