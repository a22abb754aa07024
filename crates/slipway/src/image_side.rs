//! One side of a conversion, as it is named on the command line.

use std::{path::PathBuf, str::FromStr};

use oci::ImageReference;

use crate::failure::Failure;

/// Where an image is or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageSide {
    /// `docker://HOST[:PORT]/REPOSITORY:TAG`
    Registry(ImageReference),
    /// `oci:DIRECTORY:TAG`
    Layout {
        /// The OCI image layout directory.
        directory: PathBuf,
        /// The tag in its index.
        tag: String,
    },
}

/// What both forms look like.
const FORMS: &str = "write docker://HOST[:PORT]/REPOSITORY:TAG or oci:DIRECTORY:TAG";

impl FromStr for ImageSide {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        if let Some(reference) = text.strip_prefix("docker://") {
            return reference.parse().map(Self::Registry).map_err(|error| {
                Failure::misuse(format!("{text:?} does not name an image: {error}")).hint(FORMS)
            });
        }
        let Some(rest) = text.strip_prefix("oci:") else {
            return Err(Failure::misuse(format!("{text:?} does not name an image")).hint(FORMS));
        };
        match rest.rsplit_once(':') {
            Some((directory, tag))
                if !directory.is_empty() && !tag.is_empty() && !tag.contains('/') =>
            {
                Ok(Self::Layout {
                    directory: directory.into(),
                    tag: tag.to_owned(),
                })
            }
            _ => Err(Failure::misuse(format!("{text:?} has no tag")).hint(FORMS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood() {
        let layout: ImageSide = "oci:/tmp/a:b/c:latest".parse().unwrap();
        let wanted = ImageSide::Layout {
            directory: "/tmp/a:b/c".into(),
            tag: "latest".into(),
        };
        assert_eq!(layout, wanted);
        assert!(matches!(
            "docker://localhost:5000/a/b:1".parse(),
            Ok(ImageSide::Registry(_))
        ));
    }

    #[test]
    fn anything_else_is_misuse() {
        for text in ["a/b:1", "oci:dir", "oci::tag", "docker://a", "oci:dir:a/b"] {
            assert!(text.parse::<ImageSide>().is_err(), "{text}");
        }
    }
}
