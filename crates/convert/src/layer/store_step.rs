//! Fifth step: the frames are written in the order of the tar, and the table of them is made.

use std::fs::File;
use std::io::{self, Write};

use crossbeam_channel::{Receiver, Sender};
use image_format::{ChunkDescriptor, LayerBlobWriter};
use oci::{Digest, DigestHasher};
use tokio_util::sync::CancellationToken;

use super::StepEnd;
use super::compress_step::StoredChunk;
