//! `slipway run`: a container, started on demand.

use std::{path::Path, process::ExitCode};

use indicatif::ProgressBar;
use node::{
    NodeDirectories, Stopwatch,
    container::{
        Access, Container, ContainerRequest, CreateContainerError, Finished, Network, Output,
        RunContainerError, Terminal, Volume,
    },
    control::{Prepared, Reply, Request, Usage, ask},
};
use tracing::warn;

use crate::{
    api_client::current_thread_runtime,
    cache::unexpected,
    cli::{NetworkChoice, RunArgs},
    config::own_variable,
    failure::Failure,
    progress,
    timeline::Timeline,
};

/// Exit code of a container whose process was ended by signal 0; the signal's number is added to it.
const EXIT_SIGNAL_BASE: i32 = 128;

/// Prepares the image, runs a container of it and returns its exit code.
pub(crate) fn run(data: &Path, args: &RunArgs) -> Result<ExitCode, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::message("a container can be started by root alone").hint("use sudo"));
    }
    let request = container_request(args)?;
    let runtime = find_runtime(&args.runtime)?;
    let directories = NodeDirectories::of_data(data);
    let watch = Stopwatch::start();
    let image = prepare(&directories, &args.image)?;
    let before = usage(&directories)?;
    let create_start_ms = watch.elapsed_ms();
    let container = Container::create(&directories, &image, &request)
        .map_err(|error| create_failure(&error))?;
    let created_ms = watch.elapsed_ms();
    let output = if args.timeline.is_some() {
        Output::Watch
    } else {
        Output::Inherit
    };
    let finished = current_thread_runtime()?.block_on(container.run(&runtime, output));
    container.remove();
    let finished = finished.map_err(|error: RunContainerError| Failure::of(&error))?;
    if let Some(format) = args.timeline {
        let after = usage(&directories)?;
        Timeline::new(
            &image,
            [create_start_ms, created_ms],
            &finished,
            [before, after],
        )
        .print(format)?;
    }
    Ok(exit_code(&finished))
}

fn prepare(directories: &NodeDirectories, image: &str) -> Result<Prepared, Failure> {
    let mut bar: Option<ProgressBar> = None;
    let request = Request::Prepare {
        image: image.to_owned(),
    };
    let reply = ask(&directories.control_socket(), &request, &mut |step| {
        let bar = bar.get_or_insert_with(progress::bar);
        bar.set_length(step.total_bytes);
        bar.set_position(step.done_bytes);
        bar.set_message(step.step);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let Reply::Prepared(prepared) = reply? else {
        return Err(unexpected());
    };
    Ok(prepared)
}

fn usage(directories: &NodeDirectories) -> Result<Usage, Failure> {
    let reply = ask(&directories.control_socket(), &Request::Usage, &mut |_| {})?;
    let Reply::Usage(usage) = reply else {
        return Err(unexpected());
    };
    Ok(usage)
}

fn container_request(args: &RunArgs) -> Result<ContainerRequest, Failure> {
    Ok(ContainerRequest {
        id: args.name.as_deref().map_or_else(|| Ok(new_id()), name)?,
        command: args.command.clone(),
        env: args.env.iter().filter_map(|text| variable(text)).collect(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        network: match args.network {
            NetworkChoice::Host => Network::Host,
            NetworkChoice::None => Network::None,
        },
        volumes: args
            .volume
            .iter()
            .map(|text| volume(text))
            .collect::<Result<_, _>>()?,
        terminal: if args.tty {
            Terminal::New
        } else {
            Terminal::Inherit
        },
    })
}

fn new_id() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    id.chars().take(12).collect()
}

/// Longest name of a container in bytes: it is its host name too (hostname(7)).
const NAME_LEN_MAX: usize = 63;

/// A name is a directory's name and a host name.
fn name(text: &str) -> Result<String, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if begins_well && text.len() <= NAME_LEN_MAX && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(Failure::misuse(format!("{text:?} is not a name of a container")).hint(
        "a name has up to 63 letters, digits and `.`, `_`, `-`, and begins with a letter or digit",
    ))
}

/// `NAME=value` as it is; a name alone takes our own value, or nothing if we have none.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    own_variable(text).map(|value| format!("{text}={value}"))
}

fn volume(text: &str) -> Result<Volume, Failure> {
    let form = "write SOURCE:TARGET or SOURCE:TARGET:ro, both paths absolute";
    let misuse = || Failure::misuse(format!("{text:?} is not a volume")).hint(form);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source, target] | [source, target, "rw"] => (source, target, Access::Write),
        [source, target, "ro"] => (source, target, Access::Read),
        _ => return Err(misuse()),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(misuse());
    }
    if !Path::new(source).exists() {
        return Err(Failure::message(format!(
            "the volume's source {source} does not exist"
        )));
    }
    Ok(Volume {
        source: source.into(),
        target: target.into(),
        access,
    })
}

/// Looks the runtime up before anything is fetched: a long wait for "not found" helps nobody.
fn find_runtime(program: &Path) -> Result<std::path::PathBuf, Failure> {
    let candidates: Vec<_> = if program.components().count() > 1 {
        vec![program.to_owned()]
    } else {
        let path = own_variable("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|directory| directory.join(program))
            .collect()
    };
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::message(format!(
                "the OCI runtime {} was not found",
                program.display()
            ))
            .hint("install it (`apt-get install runc`), or name another with --runtime")
        })
}

fn create_failure(error: &CreateContainerError) -> Failure {
    let failure = Failure::of(error);
    match error {
        CreateContainerError::Taken { .. } => failure.hint("choose another --name"),
        CreateContainerError::Spec { .. } => failure.hint("give a command after the image"),
        CreateContainerError::User { .. } => failure.hint("give numbers with --user UID:GID"),
        CreateContainerError::Write { .. }
        | CreateContainerError::ReadConfig { .. }
        | CreateContainerError::ParseConfig { .. }
        | CreateContainerError::Mount { .. } => failure,
    }
}

fn exit_code(finished: &Finished) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = finished.status.code().unwrap_or_else(|| {
        warn!(status = %finished.status, "the OCI runtime was ended by a signal");
        EXIT_SIGNAL_BASE + finished.status.signal().unwrap_or_default()
    });
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_absolute_and_exist() {
        let read = volume("/etc:/mnt:ro").unwrap();
        assert_eq!(
            read,
            Volume {
                source: "/etc".into(),
                target: "/mnt".into(),
                access: Access::Read
            }
        );
        for text in [
            "/etc",
            "etc:/mnt",
            "/etc:mnt",
            "/etc:/mnt:x",
            "/does/not/exist:/mnt",
        ] {
            assert!(volume(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        assert_eq!(name("web-1.a_b").unwrap(), "web-1.a_b");
        for text in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "-x",
            ".x",
            "é",
            &"x".repeat(64),
        ] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_runtime_is_said_before_anything_else() {
        assert!(find_runtime(Path::new("no-such-runtime")).is_err());
        assert!(find_runtime(Path::new("/no/such/runtime")).is_err());
    }
}
