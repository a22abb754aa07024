//! The OCI runtime's `config.json` for one container (OCI runtime specification 1.0).
//!
//! What an image's configuration and the command line say, turned into the document that `runc`
//! reads. Pure: no file is touched here.

use std::path::{Path, PathBuf};

use oci::ContainerConfig;
use serde_json::{Value, json};
use thiserror::Error;

/// Which network a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The machine's own.
    Host,
    /// A new one with nothing but loopback.
    None,
}

/// A directory or file of the machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Path on the machine, absolute.
    pub source: PathBuf,
    /// Path in the container, absolute.
    pub target: PathBuf,
    /// What the container may do with it.
    pub access: Access,
}

/// What a container may do with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// Who the container's process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ProcessUser {
    /// User number.
    pub(crate) uid: u32,
    /// Group number.
    pub(crate) gid: u32,
    /// Further groups.
    pub(crate) additional_gids: Vec<u32>,
}

/// Everything that is not in the image.
#[derive(Debug, Clone)]
pub(crate) struct SpecRequest {
    /// The mounted root filesystem.
    pub(crate) root: PathBuf,
    /// Name of the container; also its host name.
    pub(crate) id: String,
    /// Command that replaces the image's `Cmd`; empty: the image's own.
    pub(crate) command: Vec<String>,
    /// `NAME=value`, on top of the image's.
    pub(crate) env: Vec<String>,
    /// Working directory that replaces the image's.
    pub(crate) working_dir: Option<String>,
    /// Who runs it.
    pub(crate) user: ProcessUser,
    /// The network.
    pub(crate) network: Network,
    /// What of the machine it sees.
    pub(crate) volumes: Vec<Volume>,
    /// Whether its standard streams are a terminal of its own.
    pub(crate) terminal: Terminal,
}

/// Whether a container gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// A new terminal, connected to ours.
    New,
    /// Our standard streams as they are.
    Inherit,
}

/// Why there is no specification for a container.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// Neither the image nor the caller names a program.
    #[error("the image names no command and none was given")]
    NoCommand,
}

/// Capabilities of a container's processes: the set that Docker and containerd give by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Paths of `/proc` and `/sys` that containerd hides from containers by default.
const MASKED_PATHS: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];

/// Paths of `/proc` that containerd makes read-only by default.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Builds the runtime's document for a container of an image with `config`.
///
/// # Errors
///
/// [`SpecError::NoCommand`].
pub(crate) fn runtime_spec(
    config: &ContainerConfig,
    request: &SpecRequest,
) -> Result<Value, SpecError> {
    let args = command_line(config, &request.command);
    if args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let working_dir = request.working_dir.as_ref().unwrap_or(&config.working_dir);
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": request.terminal == Terminal::New,
            "user": {
                "uid": request.user.uid,
                "gid": request.user.gid,
                "additionalGids": request.user.additional_gids,
            },
            "args": args,
            "env": environment(config, request),
            "cwd": if working_dir.is_empty() { "/" } else { working_dir },
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "noNewPrivileges": false,
        },
        "root": { "path": request.root, "readonly": false },
        "hostname": request.id,
        "mounts": mounts(request),
        "linux": {
            "cgroupsPath": format!("/slipway/{}", request.id),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(request.network),
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
        },
    }))
}

// SPEC: image configuration, "Entrypoint" and "Cmd": a command replaces Cmd and keeps Entrypoint.
fn command_line(config: &ContainerConfig, command: &[String]) -> Vec<String> {
    let arguments = if command.is_empty() {
        &config.cmd[..]
    } else {
        command
    };
    config.entrypoint.iter().chain(arguments).cloned().collect()
}

/// The image's variables, a search path if it has none, then the caller's; the last of a name wins.
fn environment(config: &ContainerConfig, request: &SpecRequest) -> Vec<String> {
    let mut variables = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={}", request.id),
    ];
    if request.terminal == Terminal::New {
        variables.push("TERM=xterm".to_owned());
    }
    for variable in config.env.iter().chain(&request.env) {
        let name = name_of(variable);
        variables.retain(|earlier| name_of(earlier) != name);
        variables.push(variable.clone());
    }
    variables
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

fn namespaces(network: Network) -> Value {
    let mut kinds = vec!["pid", "ipc", "uts", "mount"];
    if network == Network::None {
        kinds.push("network");
    }
    kinds
        .into_iter()
        .map(|kind| json!({ "type": kind }))
        .collect()
}

fn mounts(request: &SpecRequest) -> Vec<Value> {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        sysfs(request.network),
    ];
    mounts.extend(
        request
            .volumes
            .iter()
            .map(|volume| bind(&volume.source, &volume.target, volume.access)),
    );
    mounts
}

/// A new sysfs shows the devices of its network namespace, so it can be mounted only in a new one.
fn sysfs(network: Network) -> Value {
    match network {
        Network::None => mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        Network::Host => mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        ),
    }
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn bind(source: &Path, target: &Path, access: Access) -> Value {
    let access = match access {
        Access::Read => "ro",
        Access::Write => "rw",
    };
    json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate", access] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SpecRequest {
        SpecRequest {
            root: "/root".into(),
            id: "c1".into(),
            command: Vec::new(),
            env: vec!["A=2".into()],
            working_dir: None,
            user: ProcessUser::default(),
            network: Network::None,
            volumes: Vec::new(),
            terminal: Terminal::Inherit,
        }
    }

    fn config() -> ContainerConfig {
        ContainerConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["serve".into()],
            env: vec!["A=1".into(), "PATH=/opt".into()],
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn a_command_replaces_cmd_and_keeps_the_entrypoint() {
        let spec = runtime_spec(&config(), &request()).unwrap();
        assert_eq!(spec["process"]["args"], json!(["/entry", "serve"]));
        let given = SpecRequest {
            command: vec!["check".into()],
            ..request()
        };
        let spec = runtime_spec(&config(), &given).unwrap();
        assert_eq!(spec["process"]["args"], json!(["/entry", "check"]));
    }

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let spec = runtime_spec(&config(), &request()).unwrap();
        assert_eq!(
            spec["process"]["env"],
            json!(["HOSTNAME=c1", "PATH=/opt", "A=2"])
        );
    }

    #[test]
    fn an_image_without_a_command_needs_one() {
        let nothing = runtime_spec(&ContainerConfig::default(), &request());
        assert_eq!(nothing, Err(SpecError::NoCommand));
    }

    #[test]
    fn only_network_none_has_a_network_namespace() {
        let kinds = |network| {
            let spec = runtime_spec(
                &config(),
                &SpecRequest {
                    network,
                    ..request()
                },
            )
            .unwrap();
            spec["linux"]["namespaces"].to_string()
        };
        assert!(kinds(Network::None).contains("network"));
        assert!(!kinds(Network::Host).contains("network"));
    }
}
