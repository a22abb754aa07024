//! Where blobs are kept, and the promises every backend keeps
