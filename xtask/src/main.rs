//! The repository's own checks: `cargo xtask check-layers` and `cargo xtask tidy`.
//!
//! Each check returns its findings as text, one a line; any finding fails the command with exit
//! code 1. Misuse is exit code 2.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints"
)]

mod layers;
mod sources;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

/// What a check has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What must be mended.
    pub(crate) errors: Vec<String>,
    /// What should be looked at.
    pub(crate) warnings: Vec<String>,
}

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let findings = match command.as_str() {
        "check-layers" => root().and_then(layers::check),
        "tidy" => root().and_then(tidy::check),
        _ => {
            eprintln!("usage: cargo xtask check-layers|tidy");
            return ExitCode::from(2);
        }
    };
    match findings {
        Ok(findings) => report(&command, &findings),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no directory above it")
}

fn report(command: &str, findings: &Findings) -> ExitCode {
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    if findings.errors.is_empty() {
        println!("{command}: ok");
        return ExitCode::SUCCESS;
    }
    println!("{command}: {} to mend", findings.errors.len());
    ExitCode::FAILURE
}
