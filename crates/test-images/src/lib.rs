//! Builds layers and images for tests
