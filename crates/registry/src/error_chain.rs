//! Errors on their way out.

use std::error::Error;
use std::fmt::Write;

/// Writes an error with all of its causes, each once.
pub(crate) fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let shown = error.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.ends_with(&shown) {
            // Writing to a string cannot fail.
            let _always_ok = write!(text, ": {shown}");
        }
        cause = error.source();
    }
    text
}

/// Says whether there was no room, in the blob store or in the catalog.
pub(crate) fn is_storage_full(error: &(dyn Error + 'static)) -> bool {
    blob_store::is_storage_full(error) || catalog::is_catalog_full(error)
}
