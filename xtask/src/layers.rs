//! Checks that a crate uses only crates that stand above it in `docs/ARCHITECTURE.md`.
//!
//! The document has two tables whose rows begin with the name of a crate in backquotes. The rows
//! under *The crates* are an order, bottom to top: a crate may use only those of earlier rows. The
//! rows under *Beside the crates* are tools: they may use crates, and crates may use them in tests
//! only.
//!
//! # What is checked
//!
//! 1. Each member of the workspace has exactly one row, and each row is a member.
//! 2. Dependencies go up the table only.
//! 3. Tools are no crate's dependency outside its tests.
//! 4. Each member takes the workspace's lints, and only `lazy-mount` may lift the ban on `unsafe`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::Table;

use crate::Findings;
use crate::sources::{files_under, has_extension, read, shown};

/// The crate that may hold `unsafe`: it talks to the kernel where no safe call exists.
const UNSAFE_CRATE: &str = "lazy-mount";

/// Heading of the table whose order binds.
const CRATES_HEADING: &str = "## The crates";

/// Heading of the table of tools.
const TOOLS_HEADING: &str = "## Beside the crates";

/// Runs the check on the repository at `root`.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let document = read(&root.join("docs/ARCHITECTURE.md"))?;
    let order = Order {
        crates: rows_under(&document, CRATES_HEADING),
        tools: rows_under(&document, TOOLS_HEADING),
    };
    let mut findings = Findings::default();
    let members = members(root)?;
    findings.errors.extend(order.differences(&members));
    for member in &members {
        findings.errors.extend(order.violations(member));
        findings.errors.extend(lint_exceptions(root, member)?);
    }
    Ok(findings)
}

/// One crate of the workspace, as its `Cargo.toml` describes it.
struct Member {
    name: String,
    directory: PathBuf,
    dependencies: Vec<String>,
    test_dependencies: Vec<String>,
    takes_workspace_lints: bool,
}

/// The two tables of the document.
struct Order {
    crates: Vec<String>,
    tools: Vec<String>,
}

impl Order {
    /// Names the members without a row and the rows without a member.
    fn differences(&self, members: &[Member]) -> Vec<String> {
        let rows = || self.crates.iter().chain(&self.tools);
        let mut errors = Vec::new();
        for member in members {
            let count = rows().filter(|row| **row == member.name).count();
            if count != 1 {
                let name = &member.name;
                errors.push(format!(
                    "docs/ARCHITECTURE.md has {count} rows for crate `{name}`, not one"
                ));
            }
        }
        for row in rows() {
            if !members.iter().any(|member| member.name == *row) {
                errors.push(format!(
                    "docs/ARCHITECTURE.md has a row for `{row}`, which is no crate"
                ));
            }
        }
        errors
    }

    /// Names the dependencies of `member` that the order forbids.
    fn violations(&self, member: &Member) -> Vec<String> {
        let name = &member.name;
        let mut errors = Vec::new();
        for used in &member.dependencies {
            let forbidden = if self.tools.contains(name) {
                false
            } else if self.tools.contains(used) {
                true
            } else {
                self.is_not_above(used, name)
            };
            if forbidden {
                errors.push(format!("crate `{name}` must not use `{used}`"));
            }
        }
        for used in &member.test_dependencies {
            if !self.tools.contains(name) && self.is_not_above(used, name) {
                errors.push(format!("the tests of crate `{name}` must not use `{used}`"));
            }
        }
        errors
    }

    /// Returns whether `used` is one of our crates and stands at or after `name`.
    fn is_not_above(&self, used: &str, name: &str) -> bool {
        let place = |wanted: &str| self.crates.iter().position(|row| row == wanted);
        match (place(used), place(name)) {
            (Some(used), Some(name)) => used >= name,
            _ => false,
        }
    }
}

/// Returns the names in the first column of the table under `heading`.
fn rows_under(document: &str, heading: &str) -> Vec<String> {
    document
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

fn members(root: &Path) -> Result<Vec<Member>> {
    let manifests = files_under(root, |path| path.ends_with("Cargo.toml"))?;
    let mut members = Vec::new();
    for path in manifests {
        let manifest: Table = read(&path)?
            .parse()
            .with_context(|| format!("could not parse {}", path.display()))?;
        // A fuzz directory is a workspace of its own, and so is the root.
        if manifest.contains_key("workspace") {
            continue;
        }
        members.push(member(&path, &manifest)?);
    }
    Ok(members)
}

fn member(path: &Path, manifest: &Table) -> Result<Member> {
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name")?.as_str())
        .with_context(|| format!("{} has no package name", path.display()))?;
    let names = |section: &str| -> Vec<String> {
        let table = manifest.get(section).and_then(toml::Value::as_table);
        table.into_iter().flat_map(Table::keys).cloned().collect()
    };
    let mut dependencies = names("dependencies");
    dependencies.extend(names("build-dependencies"));
    Ok(Member {
        name: name.to_owned(),
        directory: path.parent().unwrap_or(path).to_path_buf(),
        dependencies,
        test_dependencies: names("dev-dependencies"),
        takes_workspace_lints: manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool())
            .unwrap_or_default(),
    })
}

fn lint_exceptions(root: &Path, member: &Member) -> Result<Vec<String>> {
    let mut errors = Vec::new();
    if !member.takes_workspace_lints {
        errors.push(format!(
            "crate `{}` does not take the workspace's lints",
            member.name
        ));
    }
    if member.name == UNSAFE_CRATE {
        return Ok(errors);
    }
    for path in files_under(&member.directory, |path| has_extension(path, "rs"))? {
        if read(&path)?.lines().any(lifts_the_ban) {
            errors.push(format!(
                "{} lifts the ban on unsafe code; only `{UNSAFE_CRATE}` may",
                shown(root, &path)
            ));
        }
    }
    Ok(errors)
}

fn lifts_the_ban(line: &str) -> bool {
    let line = line.trim_start();
    !line.starts_with("//")
        && ["allow(unsafe_code", "expect(unsafe_code"]
            .iter()
            .any(|lifted| line.contains(lifted))
        && line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            crates: vec!["low".into(), "high".into()],
            tools: vec!["tool".into()],
        }
    }

    fn member_using(name: &str, dependencies: &[&str], test_dependencies: &[&str]) -> Member {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Member {
            name: name.to_owned(),
            directory: PathBuf::new(),
            dependencies: owned(dependencies),
            test_dependencies: owned(test_dependencies),
            takes_workspace_lints: true,
        }
    }

    #[test]
    fn a_crate_may_use_what_stands_above_it_and_tools_in_tests() {
        let member = member_using("high", &["low", "serde"], &["tool"]);
        assert!(order().violations(&member).is_empty());
    }

    #[test]
    fn a_crate_may_not_use_what_stands_below_it() {
        let errors = order().violations(&member_using("low", &["high"], &["high"]));
        assert_eq!(errors.len(), 2, "{errors:?}");
    }

    #[test]
    fn a_crate_may_not_use_a_tool_outside_its_tests() {
        let errors = order().violations(&member_using("high", &["tool"], &[]));
        assert_eq!(errors, ["crate `high` must not use `tool`"]);
    }

    #[test]
    fn a_member_without_a_row_and_a_row_without_a_member_are_named() {
        let members = [member_using("low", &[], &[]), member_using("new", &[], &[])];
        let errors = order().differences(&members);
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("0 rows for crate `new`"));
    }

    #[test]
    fn rows_end_at_the_next_heading() {
        let document =
            "## The crates\n| a | b |\n| `one` | x |\n| `two` | y |\n## Next\n| `no` |\n";
        assert_eq!(rows_under(document, CRATES_HEADING), ["one", "two"]);
    }

    #[test]
    fn lifting_the_ban_is_seen_in_attributes_only() {
        assert!(lifts_the_ban("#![allow(unsafe_code, reason = \"x\")]"));
        assert!(!lifts_the_ban("// #![allow(unsafe_code)]"));
        assert!(!lifts_the_ban("let text = \"allow(unsafe_code\";"));
    }
}
