//! Source image in, accelerated image out
