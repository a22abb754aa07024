//! The management API: requests and answers as types
