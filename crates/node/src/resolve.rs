//! From the name of an image to its manifest for this machine.

use oci::{
    Descriptor, FetchedManifest, ImageManifest, ImageReference, Manifest, Platform, RegistryClient,
    RepositoryClient, Selector,
};

use crate::NodeError;

/// An image of a registry, found.
#[derive(Debug)]
pub(crate) struct ResolvedImage {
    /// What it was asked for by.
    pub(crate) reference: ImageReference,
    /// Its repository.
    pub(crate) repository: RepositoryClient,
    /// Its manifest for this machine.
    pub(crate) fetched: FetchedManifest,
    /// The same, parsed.
    pub(crate) manifest: ImageManifest,
}

/// Finds the manifest of the image that `text` names, for this machine's architecture.
///
/// # Errors
///
/// [`NodeError`], which names the image.
pub(crate) async fn resolve(
    client: &RegistryClient,
    text: &str,
) -> Result<ResolvedImage, NodeError> {
    let reference: ImageReference = text.parse().map_err(|source| NodeError::Reference {
        text: text.to_owned(),
        source,
    })?;
    let repository = client.for_image(&reference);
    let top = fetch(&repository, &reference, &reference.selector).await?;
    let index = match top.manifest.clone() {
        Manifest::Image(manifest) => {
            return Ok(ResolvedImage {
                reference,
                repository,
                fetched: top,
                manifest,
            });
        }
        Manifest::Index(index) => index,
    };
    let chosen = choose(&index.manifests).ok_or_else(|| NodeError::Platform {
        image: reference.to_string(),
        architecture: architecture(),
    })?;
    let fetched = fetch(&repository, &reference, &Selector::Digest(chosen.digest)).await?;
    match fetched.manifest.clone() {
        Manifest::Image(manifest) => Ok(ResolvedImage {
            reference,
            repository,
            fetched,
            manifest,
        }),
        // An index in an index has no platform of its own; nobody makes images of it.
        Manifest::Index(_) => Err(NodeError::Platform {
            image: reference.to_string(),
            architecture: architecture(),
        }),
    }
}

async fn fetch(
    repository: &RepositoryClient,
    reference: &ImageReference,
    selector: &Selector,
) -> Result<FetchedManifest, NodeError> {
    repository
        .fetch_manifest(selector)
        .await
        .map_err(|source| NodeError::Fetch {
            image: reference.to_string(),
            source,
        })?
        .ok_or_else(|| NodeError::Absent {
            image: reference.to_string(),
        })
}

/// The first manifest for this machine: an index lists them in order of preference.
fn choose(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits =
        |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
    manifests
        .iter()
        .find(|manifest| manifest.platform.as_ref().is_some_and(fits))
}

/// This machine's architecture in the words of the image specification (those of Go).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
