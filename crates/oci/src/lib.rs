//! Names, references, digests, manifests, media types; the distribution client
