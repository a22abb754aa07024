//! How soon something foreseen will be read.

/// How soon something that is known to be read will be read; what is smaller is fetched first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForesightRank {
    /// Before the program runs: what has to be known to foresee more.
    Tables,
    /// While the program is put together.
    Link,
    /// When it begins to run.
    Begin,
}
