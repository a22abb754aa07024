//! A body is a manifest that means the same when it is written and read again, or it is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{ImageConfig, Manifest, media_type};

fuzz_target!(|body: &[u8]| {
    let _config = ImageConfig::parse(body);
    for content_type in [None, Some(media_type::OCI_MANIFEST), Some(media_type::OCI_INDEX)] {
        let Ok(manifest) = Manifest::parse(content_type, body) else {
            continue;
        };
        let written = match &manifest {
            Manifest::Image(image) => image.to_json(),
            Manifest::Index(index) => index.to_json(),
        };
        let again = Manifest::parse(content_type, &written);
        assert_eq!(again.ok(), Some(manifest));
    }
});
