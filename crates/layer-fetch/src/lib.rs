//! Chunk by chunk from the registry: one flight each, read-ahead
