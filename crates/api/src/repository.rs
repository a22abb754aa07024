//! Repositories and their switch *image acceleration*.

use oci::RepositoryName;
use serde::{Deserialize, Serialize};

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its name.
    pub name: RepositoryName,
    /// Whether each pushed tag is converted.
    pub acceleration_enabled: bool,
    /// How many tags it has, accelerated ones included.
    pub tag_count: u64,
    /// When it came to be.
    pub created_unix_ms: i64,
}

/// All repositories, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryList {
    /// The repositories.
    pub repositories: Vec<Repository>,
}

/// Turns image acceleration on or off. The repository need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAcceleration {
    /// The wanted position of the switch.
    pub enabled: bool,
    /// What becomes of the tags that are there already, when the switch is turned on.
    #[serde(default)]
    pub existing_tags: ExistingTags,
}

/// What becomes of the tags that were there before the switch was turned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExistingTags {
    /// They are converted, as if they were pushed now.
    #[default]
    Convert,
    /// They stay as they are until they are pushed again.
    Leave,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_alone_is_a_whole_request() {
        let request: SetAcceleration = serde_json::from_str(r#"{"enabled":true}"#).unwrap();
        assert_eq!(
            request,
            SetAcceleration {
                enabled: true,
                existing_tags: ExistingTags::Convert
            }
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let request = serde_json::from_str::<SetAcceleration>(r#"{"enabled":true,"force":1}"#);
        assert!(request.is_err());
    }
}
