//! The names of accelerated tags.

use oci::Tag;

/// What is put behind a tag to name its accelerated image.
pub const ACCELERATED_SUFFIX: &str = "_accelerated";

/// Returns the accelerated tag of `tag`, `None` if it would be longer than a tag may be.
pub fn accelerated_tag(tag: &Tag) -> Option<Tag> {
    format!("{tag}{ACCELERATED_SUFFIX}").parse().ok()
}

/// Says whether only the converter may set `tag` in a repository with acceleration on.
pub fn is_reserved(tag: &Tag) -> bool {
    tag.as_str().ends_with(ACCELERATED_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accelerated_tag_is_reserved() {
        let tag = accelerated_tag(&Tag::latest()).unwrap();
        assert_eq!(tag.as_str(), "latest_accelerated");
        assert!(is_reserved(&tag));
        assert!(!is_reserved(&Tag::latest()));
    }

    #[test]
    fn a_tag_without_room_for_the_suffix_has_no_accelerated_tag() {
        let longest: Tag = "t"
            .repeat(Tag::LEN_MAX - ACCELERATED_SUFFIX.len())
            .parse()
            .unwrap();
        assert!(accelerated_tag(&longest).is_some());
        let longer: Tag = format!("{longest}t").parse().unwrap();
        assert!(accelerated_tag(&longer).is_none());
    }
}
