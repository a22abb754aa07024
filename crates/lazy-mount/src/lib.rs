//! Keeper, FUSE directory, EROFS and overlay mounts. The only crate with unsafe
