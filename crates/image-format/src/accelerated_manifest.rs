//! The manifest of an accelerated image, as far as it is more than an ordinary one.
//!
//! # Invariants
//!
//! 1. Each layer of an [`AcceleratedManifest`] has a chunk table.
//! 2. The sizes of tables and tree are within what a reader fetches into memory.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, ImageManifest, ParseDigestError, media_type};
use thiserror::Error;

use crate::annotations;
use crate::table::CHUNK_TABLE_LEN_MAX;

/// Longest stored root tree, in bytes: what a reader has to fetch and decode at most.
///
/// A tree of a million inodes is about 100 MB and a quarter of that stored.
pub const ROOT_TREE_STORED_LEN_MAX: u64 = 256 << 20;

/// Most layers of an image.
pub const LAYER_COUNT_MAX: usize = crate::tree::LAYERS_MAX;

/// The config blob of a manifest that has none: `{}`.
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// One layer and its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratedLayer {
    /// The stored layer: `…tar+zstd`.
    pub stored: Descriptor,
    /// Its chunk table.
    pub chunk_table: Descriptor,
}

/// What the manifest of an accelerated image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratedManifest {
    /// The source's config, unchanged.
    pub config: Descriptor,
    /// Digest of the manifest that was converted, if the manifest tells.
    pub source: Option<Digest>,
    /// The root tree.
    pub root_tree: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<AcceleratedLayer>,
}

impl AcceleratedManifest {
    /// Reads a manifest. `Ok(None)` says that the image is an ordinary one.
    ///
    /// # Errors
    ///
    /// [`AnnotationError`] if the manifest claims to be of an accelerated image but is not one
    /// that this version can read.
    pub fn from_manifest(manifest: &ImageManifest) -> Result<Option<Self>, AnnotationError> {
        if manifest.artifact_type.as_deref() != Some(annotations::ARTIFACT_TYPE) {
            return Ok(None);
        }
        check_format(&manifest.annotations)?;
        let layer_count = manifest.layers.len();
        if layer_count > LAYER_COUNT_MAX {
            return Err(AnnotationError::TooManyLayers { layer_count });
        }
        let layers = manifest.layers.iter().enumerate();
        Ok(Some(Self {
            config: manifest.config.clone(),
            source: source_digest(manifest)?,
            root_tree: root_tree(&manifest.annotations)?,
            layers: layers.map(read_layer).collect::<Result<_, _>>()?,
        }))
    }

    /// Makes the manifest of the image that was converted from `source`.
    ///
    /// `source_annotations` are those of the source's manifest; they are carried over, but for
    /// ours. Annotations that `layers` have are kept likewise.
    pub fn build(
        source: &Descriptor,
        source_annotations: &BTreeMap<String, String>,
        config: Descriptor,
        root_tree: &Descriptor,
        layers: &[AcceleratedLayer],
    ) -> ImageManifest {
        let mut manifest = ImageManifest::new(config, layers.iter().map(annotated_layer).collect());
        manifest.artifact_type = Some(annotations::ARTIFACT_TYPE.to_owned());
        manifest.subject = Some(reference_to(source));
        manifest.annotations = without_ours(source_annotations);
        manifest.annotations.extend(
            [
                (annotations::FORMAT, annotations::FORMAT_VERSION.to_owned()),
                (annotations::ROOT_TREE_DIGEST, root_tree.digest.to_string()),
                (annotations::ROOT_TREE_SIZE, root_tree.size.to_string()),
                (annotations::SOURCE_DIGEST, source.digest.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        manifest
    }
}

/// Makes the manifest that keeps tables and tree from being collected as garbage.
///
/// `subject` is the accelerated image's manifest. The config is [`EMPTY_CONFIG`], whose blob has
/// to be there too. A table that several layers share is named once.
pub fn index_artifact(
    subject: &Descriptor,
    root_tree: &Descriptor,
    layers: &[AcceleratedLayer],
) -> ImageManifest {
    let mut blobs: Vec<Descriptor> = Vec::with_capacity(layers.len() + 1);
    for layer in layers {
        let table = &layer.chunk_table;
        if blobs.iter().all(|blob| blob.digest != table.digest) {
            blobs.push(Descriptor::new(
                annotations::CHUNK_TABLE,
                table.digest,
                table.size,
            ));
        }
    }
    blobs.push(Descriptor::new(
        annotations::ROOT_TREE,
        root_tree.digest,
        root_tree.size,
    ));
    let config = Descriptor::of(media_type::OCI_EMPTY, EMPTY_CONFIG);
    let mut manifest = ImageManifest::new(config, blobs);
    manifest.artifact_type = Some(annotations::INDEX_ARTIFACT_TYPE.to_owned());
    manifest.subject = Some(reference_to(subject));
    manifest
}

fn check_format(annotations: &BTreeMap<String, String>) -> Result<(), AnnotationError> {
    let version = required(annotations, annotations::FORMAT)?;
    if version == annotations::FORMAT_VERSION {
        return Ok(());
    }
    Err(AnnotationError::Format {
        version: version.to_owned(),
    })
}

fn source_digest(manifest: &ImageManifest) -> Result<Option<Digest>, AnnotationError> {
    let subject = manifest.subject.as_ref().map(|subject| subject.digest);
    if !manifest
        .annotations
        .contains_key(annotations::SOURCE_DIGEST)
    {
        return Ok(subject);
    }
    let annotated = digest(&manifest.annotations, annotations::SOURCE_DIGEST)?;
    match subject {
        Some(subject) if subject != annotated => {
            Err(AnnotationError::Source { annotated, subject })
        }
        Some(_) | None => Ok(Some(annotated)),
    }
}

fn root_tree(annotations: &BTreeMap<String, String>) -> Result<Descriptor, AnnotationError> {
    Ok(Descriptor::new(
        annotations::ROOT_TREE,
        digest(annotations, annotations::ROOT_TREE_DIGEST)?,
        size(
            annotations,
            annotations::ROOT_TREE_SIZE,
            ROOT_TREE_STORED_LEN_MAX,
        )?,
    ))
}

fn read_layer((index, stored): (usize, &Descriptor)) -> Result<AcceleratedLayer, AnnotationError> {
    if stored.media_type != media_type::OCI_LAYER_ZSTD {
        return Err(AnnotationError::LayerType {
            index,
            media_type: stored.media_type.clone(),
        });
    }
    let chunk_table = table_of(stored).map_err(|source| AnnotationError::Layer {
        index,
        source: Box::new(source),
    })?;
    Ok(AcceleratedLayer {
        stored: stored.clone(),
        chunk_table,
    })
}

fn table_of(stored: &Descriptor) -> Result<Descriptor, AnnotationError> {
    Ok(Descriptor::new(
        annotations::CHUNK_TABLE,
        digest(&stored.annotations, annotations::CHUNK_TABLE_DIGEST)?,
        size(
            &stored.annotations,
            annotations::CHUNK_TABLE_SIZE,
            CHUNK_TABLE_LEN_MAX,
        )?,
    ))
}

fn required<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &'static str,
) -> Result<&'a str, AnnotationError> {
    annotations
        .get(name)
        .map(String::as_str)
        .ok_or(AnnotationError::Absent { name })
}

fn digest(
    annotations: &BTreeMap<String, String>,
    name: &'static str,
) -> Result<Digest, AnnotationError> {
    required(annotations, name)?
        .parse()
        .map_err(|source| AnnotationError::Digest { name, source })
}

/// Reads a size in plain decimal: no sign, no leading zeros.
fn size(
    annotations: &BTreeMap<String, String>,
    name: &'static str,
    size_max: u64,
) -> Result<u64, AnnotationError> {
    let text = required(annotations, name)?;
    text.parse()
        .ok()
        .filter(|size: &u64| size.to_string() == text && *size <= size_max)
        .ok_or_else(|| AnnotationError::Size {
            name,
            text: text.to_owned(),
            size_max,
        })
}

fn annotated_layer(layer: &AcceleratedLayer) -> Descriptor {
    let table = &layer.chunk_table;
    let mut stored = layer.stored.clone();
    media_type::OCI_LAYER_ZSTD.clone_into(&mut stored.media_type);
    stored.annotations = without_ours(&stored.annotations);
    stored.annotations.extend(
        [
            (annotations::CHUNK_TABLE_DIGEST, table.digest.to_string()),
            (annotations::CHUNK_TABLE_SIZE, table.size.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    stored
}

fn without_ours(annotations: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut kept = annotations.clone();
    kept.retain(|name, _| !name.starts_with(annotations::PREFIX));
    kept
}

/// Makes the descriptor of a subject: what it points at, nothing of where it was found.
fn reference_to(subject: &Descriptor) -> Descriptor {
    Descriptor::new(subject.media_type.clone(), subject.digest, subject.size)
}

/// Why a manifest that claims to be of an accelerated image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnnotationError {
    /// An annotation is missing.
    #[error("annotation {name} is missing")]
    Absent {
        /// Its name.
        name: &'static str,
    },
    /// The format is newer, or never was.
    #[error("accelerated image format {version:?} is not supported, only format 1 is")]
    Format {
        /// What the manifest says.
        version: String,
    },
    /// A digest is not one.
    #[error("annotation {name} is not a digest")]
    Digest {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        source: ParseDigestError,
    },
    /// A size is not one, or too large.
    #[error("annotation {name} is {text:?}, not a decimal size of at most {size_max}")]
    Size {
        /// Its name.
        name: &'static str,
        /// Its value.
        text: String,
        /// The limit.
        size_max: u64,
    },
    /// Annotation and subject name different sources.
    #[error("the source is {annotated} by annotation, but the subject is {subject}")]
    Source {
        /// What the annotation says.
        annotated: Digest,
        /// What the subject says.
        subject: Digest,
    },
    /// There are too many layers.
    #[error("the image has {layer_count} layers, the limit is {LAYER_COUNT_MAX}")]
    TooManyLayers {
        /// How many there are.
        layer_count: usize,
    },
    /// A layer is not stored as the format says.
    #[error(
        "layer {index} has media type {media_type:?} instead of {}",
        media_type::OCI_LAYER_ZSTD
    )]
    LayerType {
        /// 0-based layer.
        index: usize,
        /// What its descriptor says.
        media_type: String,
    },
    /// A layer's annotations are wrong.
    #[error("layer {index} has no usable chunk table")]
    Layer {
        /// 0-based layer.
        index: usize,
        /// In what way.
        source: Box<AnnotationError>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<AcceleratedLayer> {
        [&b"one"[..], b"two"]
            .map(|content| AcceleratedLayer {
                stored: Descriptor::of(media_type::OCI_LAYER_ZSTD, content),
                chunk_table: Descriptor::new(
                    annotations::CHUNK_TABLE,
                    Digest::of(&[content, b" table"].concat()),
                    104,
                ),
            })
            .to_vec()
    }

    fn root_tree() -> Descriptor {
        Descriptor::of(annotations::ROOT_TREE, b"tree")
    }

    fn manifest() -> ImageManifest {
        let source_annotations = BTreeMap::from([
            (
                "org.opencontainers.image.title".to_owned(),
                "kept".to_owned(),
            ),
            ("dev.slipway.format".to_owned(), "9".to_owned()),
        ]);
        AcceleratedManifest::build(
            &Descriptor::of(media_type::OCI_MANIFEST, b"source"),
            &source_annotations,
            Descriptor::of(media_type::OCI_CONFIG, b"config"),
            &root_tree(),
            &layers(),
        )
    }

    #[test]
    fn reading_a_built_manifest_gives_its_parts_back() {
        let built = manifest();
        let read = AcceleratedManifest::from_manifest(&built).unwrap().unwrap();
        assert_eq!(read.config, built.config);
        assert_eq!(read.source, Some(Digest::of(b"source")));
        assert_eq!(read.root_tree, root_tree());
        let tables: Vec<_> = read
            .layers
            .iter()
            .map(|layer| layer.chunk_table.clone())
            .collect();
        let wanted: Vec<_> = layers()
            .into_iter()
            .map(|layer| layer.chunk_table)
            .collect();
        assert_eq!(tables, wanted);
        assert_eq!(built.annotations["org.opencontainers.image.title"], "kept");
        assert_eq!(built.annotations[annotations::FORMAT], "1");
    }

    #[test]
    fn an_ordinary_image_is_not_an_error() {
        let mut ordinary = manifest();
        ordinary.artifact_type = None;
        assert_eq!(AcceleratedManifest::from_manifest(&ordinary), Ok(None));
    }

    #[test]
    fn what_claims_to_be_accelerated_and_is_not_is_named() {
        type Change = fn(&mut ImageManifest);
        let cases: [(Change, &str); 8] = [
            (
                |m| drop(m.annotations.remove(annotations::FORMAT)),
                "annotation dev.slipway.format is missing",
            ),
            (
                |m| set(&mut m.annotations, annotations::FORMAT, "2"),
                "accelerated image format \"2\" is not supported, only format 1 is",
            ),
            (
                |m| set(&mut m.annotations, annotations::ROOT_TREE_DIGEST, "md5:0"),
                "annotation dev.slipway.root-tree.digest is not a digest",
            ),
            (
                |m| set(&mut m.annotations, annotations::ROOT_TREE_SIZE, "+4"),
                "annotation dev.slipway.root-tree.size is \"+4\", not a decimal size of at most 268435456",
            ),
            (
                |m| {
                    set(
                        &mut m.layers[1].annotations,
                        annotations::CHUNK_TABLE_SIZE,
                        "99999999999",
                    );
                },
                "layer 1 has no usable chunk table",
            ),
            (
                |m| media_type::OCI_LAYER_GZIP.clone_into(&mut m.layers[0].media_type),
                "layer 0 has media type \"application/vnd.oci.image.layer.v1.tar+gzip\" instead of application/vnd.oci.image.layer.v1.tar+zstd",
            ),
            (
                |m| m.layers = vec![m.layers[0].clone(); 4097],
                "the image has 4097 layers, the limit is 4096",
            ),
            (
                |m| m.subject = Some(Descriptor::of(media_type::OCI_MANIFEST, b"other")),
                "the source is sha256:",
            ),
        ];
        for (change, message) in cases {
            let mut changed = manifest();
            change(&mut changed);
            let error = AcceleratedManifest::from_manifest(&changed).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }

    fn set(annotations: &mut BTreeMap<String, String>, name: &str, value: &str) {
        annotations.insert(name.to_owned(), value.to_owned());
    }

    #[test]
    fn the_index_artifact_names_each_blob_once_and_the_image_as_its_subject() {
        let subject = Descriptor::of(media_type::OCI_MANIFEST, &manifest().to_json());
        let twice = [layers(), layers()].concat();
        let artifact = index_artifact(&subject, &root_tree(), &twice);
        let digests: Vec<_> = artifact.layers.iter().map(|blob| blob.digest).collect();
        assert_eq!(
            digests,
            [
                Digest::of(b"one table"),
                Digest::of(b"two table"),
                root_tree().digest
            ]
        );
        assert_eq!(artifact.subject, Some(subject));
        assert_eq!(artifact.config.size, 2);
    }
}
