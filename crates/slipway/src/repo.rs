//! `slipway repo`: the settings of repositories.

use std::path::Path;

use api::{ExistingTags, Repository, RepositoryList, SetAcceleration};
use oci::RepositoryName;
use reqwest::Method;

use crate::{
    api_client::ApiClient,
    cli::{OutputFormat, Switch},
    failure::Failure,
    table,
};

/// Switches image acceleration of a repository.
pub(crate) fn accelerate(
    data: &Path,
    repository: &str,
    switch: Switch,
    output: OutputFormat,
) -> Result<(), Failure> {
    let name: RepositoryName = repository.parse().map_err(|error| {
        Failure::misuse(format!("{repository:?} is not a repository name: {error}"))
            .hint("a name has lower-case letters, digits and `.`, `_`, `-`, in parts with `/` between them")
    })?;
    let wanted = SetAcceleration {
        enabled: switch == Switch::On,
        existing_tags: ExistingTags::Convert,
    };
    let path = format!("/api/v1/repositories/{name}/acceleration");
    let set: Repository = ApiClient::find(data)?.send(Method::PUT, &path, Some(&wanted))?;
    print(&[set], output)
}

/// Lists the repositories.
pub(crate) fn list(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    let list: RepositoryList = ApiClient::find(data)?.get("/api/v1/repositories")?;
    print(&list.repositories, output)
}

fn print(repositories: &[Repository], output: OutputFormat) -> Result<(), Failure> {
    table::print(
        &repositories,
        output,
        &["REPOSITORY", "ACCELERATION", "TAGS "],
        |repositories| {
            let row = |repository: &Repository| {
                let switch = if repository.acceleration_enabled {
                    "on"
                } else {
                    "off"
                };
                vec![
                    repository.name.to_string(),
                    switch.to_owned(),
                    repository.tag_count.to_string(),
                ]
            };
            repositories.iter().map(row).collect()
        },
    )
}
