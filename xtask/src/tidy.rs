//! Checks what no compiler checks: sizes, headers, words, links.
//!
//! # What is checked
//!
//! 1. A Rust file begins with a `//!` header and is not named `mod.rs`.
//! 2. A Rust file without its tests has at most [`FILE_LINES_MAX`] lines; [`FILE_LINES_AIM`] warns.
//! 3. No placeholder is left: no macro that panics for want of code, no mark without words.
//! 4. A shell script sets `-euo pipefail` and has at most [`SCRIPT_LINES_MAX`] lines.
//! 5. A relative link in a Markdown file leads to a file, and `make` targets named in the README
//!    exist.

use std::path::Path;

use anyhow::Result;

use crate::Findings;
use crate::sources::{files_under, has_extension, read, shown};

/// Above this many lines without tests a file should be split; style says "stop and think".
const FILE_LINES_AIM: usize = 400;

/// Above this many lines without tests a file must be split.
const FILE_LINES_MAX: usize = 600;

/// Two screens. What is longer belongs into a program.
const SCRIPT_LINES_MAX: usize = 130;

/// Runs the check on the repository at `root`.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    for path in files_under(root, |path| has_extension(path, "rs"))? {
        check_rust(&shown(root, &path), &read(&path)?, &mut findings);
    }
    for path in files_under(root, |path| has_extension(path, "sh") || is_ci(path))? {
        check_script(&shown(root, &path), &read(&path)?, &mut findings);
    }
    for path in files_under(root, |path| has_extension(path, "md"))? {
        let directory = path.parent().unwrap_or(root);
        for link in relative_links(&read(&path)?) {
            if !directory.join(&link).exists() {
                let name = shown(root, &path);
                findings
                    .errors
                    .push(format!("{name} links to {link}, which is not there"));
            }
        }
    }
    let targets = make_targets(&read(&root.join("Makefile"))?);
    for target in make_commands(&read(&root.join("README.md"))?) {
        if !targets.contains(&target) {
            findings.errors.push(format!(
                "README.md names `make {target}`, which is no target"
            ));
        }
    }
    Ok(findings)
}

fn is_ci(path: &Path) -> bool {
    path.ends_with(".ci/run")
}

fn check_rust(name: &str, text: &str, findings: &mut Findings) {
    if name.ends_with("/mod.rs") {
        findings.errors.push(format!(
            "{name}: name the file for its module, beside the directory"
        ));
    }
    if !text.starts_with("//!") {
        findings
            .errors
            .push(format!("{name}: does not begin with a `//!` header"));
    }
    let lines = lines_without_tests(name, text);
    if lines > FILE_LINES_MAX {
        findings
            .errors
            .push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}"));
    } else if lines > FILE_LINES_AIM {
        findings.warnings.push(format!(
            "{name}: {lines} lines, better at most {FILE_LINES_AIM}"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = placeholder(line) {
            findings
                .errors
                .push(format!("{name}:{}: {word} is left", index + 1));
        }
    }
}

/// Counts the lines before the tests at the end of the file; a file of tests has none.
fn lines_without_tests(name: &str, text: &str) -> usize {
    if name.contains("/tests/") || name.ends_with("/tests.rs") {
        return 0;
    }
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

/// Returns the placeholder that a line holds. A mark that says what is to do is none.
fn placeholder(line: &str) -> Option<&'static str> {
    let macros = [
        (concat!("todo", "!("), "a todo macro"),
        (concat!("unimplemented", "!("), "an unimplemented macro"),
    ];
    for (text, name) in macros {
        if line.contains(text) {
            return Some(name);
        }
    }
    ["TODO", "FIXME", "XXX"].into_iter().find(|word| {
        let comment = line.split_once("//").map_or("", |(_, comment)| comment);
        let words: Vec<&str> = comment.split_whitespace().collect();
        words
            .iter()
            .position(|found| found.trim_end_matches(':') == *word)
            .is_some_and(|place| words.len() - place < 4)
    })
}

fn check_script(name: &str, text: &str, findings: &mut Findings) {
    if !text.lines().any(|line| line == "set -euo pipefail") {
        findings
            .errors
            .push(format!("{name}: does not say `set -euo pipefail`"));
    }
    let lines = text.lines().count();
    if lines > SCRIPT_LINES_MAX {
        findings
            .errors
            .push(format!("{name}: {lines} lines, at most {SCRIPT_LINES_MAX}"));
    }
}

/// Returns the targets of the links `[text](target)` that lead to files, without their anchors.
fn relative_links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.contains(char::is_whitespace))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}

fn make_targets(makefile: &str) -> Vec<String> {
    makefile
        .lines()
        .filter_map(|line| line.split_once(": ##"))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// Returns the targets of the `make` commands in a document, in code or in a code block.
fn make_commands(document: &str) -> Vec<String> {
    document
        .lines()
        .flat_map(|line| line.split('`'))
        .filter_map(make_command)
        .collect()
}

/// Returns the target if `code` is a `make` command, variables before it or not.
fn make_command(code: &str) -> Option<String> {
    let mut words = code
        .split_whitespace()
        .skip_while(|word| word.contains('='));
    let target = words
        .next()
        .filter(|word| *word == "make")
        .and_then(|_| words.next())?;
    let is_target = target.chars().all(|letter| letter.is_ascii_lowercase());
    is_target.then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(name: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check_rust(name, text, &mut findings);
        findings.errors
    }

    #[test]
    fn a_file_with_a_header_passes() {
        assert!(errors_of("a/src/lib.rs", "//! What it is.\n").is_empty());
    }

    #[test]
    fn a_file_without_a_header_or_named_mod_is_named() {
        assert_eq!(errors_of("a/src/mod.rs", "fn main() {}\n").len(), 2);
    }

    #[test]
    fn tests_at_the_end_do_not_count_as_length() {
        let tests = "#[test]\n".repeat(1000);
        let text = format!("//! Header.\n#[cfg(test)]\nmod tests {{\n{tests}}}\n");
        assert_eq!(lines_without_tests("a/src/lib.rs", &text), 1);
        assert!(errors_of("a/src/lib.rs", &text).is_empty());
    }

    #[test]
    fn a_long_file_is_an_error_and_a_longish_one_a_warning() {
        let mut findings = Findings::default();
        check_rust("a.rs", &"//! x\n".repeat(FILE_LINES_AIM + 1), &mut findings);
        assert_eq!((findings.errors.len(), findings.warnings.len()), (0, 1));
        check_rust("a.rs", &"//! x\n".repeat(FILE_LINES_MAX + 1), &mut findings);
        assert_eq!((findings.errors.len(), findings.warnings.len()), (1, 1));
    }

    #[test]
    fn a_bare_todo_is_found_and_one_that_says_what_is_not() {
        assert_eq!(placeholder(concat!("    // TO", "DO: later")), Some("TODO"));
        assert_eq!(placeholder("// TODO: read the limit from the index"), None);
        assert_eq!(
            placeholder(concat!("    todo", "!()")),
            Some("a todo macro")
        );
    }

    #[test]
    fn links_to_the_web_and_to_anchors_are_left_alone() {
        let text = "[a](docs/a.md#part) [b](https://example.org) [c](#here) ![d](d.svg)";
        assert_eq!(relative_links(text), ["docs/a.md", "d.svg"]);
    }

    #[test]
    fn make_commands_are_found_in_blocks_and_in_code() {
        let document =
            "    make demo\nRun `make test` or `BENCH_RUNS=1 make bench`.\nto make things\n";
        assert_eq!(make_commands(document), ["demo", "test", "bench"]);
        assert_eq!(
            make_targets("demo: ## Show\n\tx\ntest: ## Run\n"),
            ["demo", "test"]
        );
    }

    #[test]
    fn a_script_must_stop_at_the_first_failure() {
        let mut findings = Findings::default();
        check_script("a.sh", "#!/bin/bash\necho\n", &mut findings);
        assert_eq!(findings.errors.len(), 1);
    }
}
