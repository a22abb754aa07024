//! Sparse layer tars on a node: presence, crash safety
