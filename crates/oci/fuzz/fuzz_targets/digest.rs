//! A text is a digest that is written the same, or it is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::Digest;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
});
