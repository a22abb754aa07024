//! Push, pull, acceleration rules: the OCI distribution server
