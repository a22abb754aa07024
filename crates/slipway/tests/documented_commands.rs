//! The commands that the documents show exist, and so do their options.
//!
//! Every line of a code block that begins with `slipway` is looked up in the program's own help.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands that have commands of their own.
const NOUNS: [&str; 4] = ["cache", "image", "repo", "task"];

/// Options that every command takes.
const GLOBAL_OPTIONS: [&str; 2] = ["--data", "--output"];

#[test]
fn the_commands_in_the_documents_exist() {
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("slipway "))
        {
            count += 1;
            check(line, &document);
        }
    }
    assert!(
        count >= 10,
        "only {count} commands were found in the documents"
    );
}

/// The README and everything below `docs`, but for the decisions: those tell of their own time.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![root.join("README.md")];
    let mut directories = vec![root.join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("decisions") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

fn check(line: &str, document: &Path) {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let depth = if NOUNS.contains(&words[0]) { 2 } else { 1 };
    let help = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(&words[..depth])
        .arg("--help")
        .output()
        .unwrap();
    let document = document.display();
    assert!(
        help.status.success(),
        "{document}: there is no such command: {line}"
    );
    let help = String::from_utf8(help.stdout).unwrap();
    // What follows the image or the repository is the container's.
    for option in words[depth..]
        .iter()
        .take_while(|word| word.starts_with("--"))
    {
        let name = option.split('=').next().unwrap();
        let is_known = GLOBAL_OPTIONS.contains(&name) || help.contains(name);
        assert!(is_known, "{document}: there is no option {name}: {line}");
    }
}
