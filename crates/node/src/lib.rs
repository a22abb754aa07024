//! What a machine does with images: prepare, mount, run
