//! A text is a reference that means the same when it is written and read again, or it is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{ImageReference, RegistryHost, RepositoryName, Selector};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<ImageReference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(host) = text.parse::<RegistryHost>() {
        assert_eq!(host.as_str(), text);
        let _known = host.is_loopback();
    }
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert!(name.components().all(|component| component != ".." && !component.is_empty()));
    }
    if let Ok(selector) = text.parse::<Selector>() {
        assert_eq!(selector.to_string(), text);
    }
});
