//! How much is tried: the tests of machines that are drawn take minutes, and most of what they find they find early.

/// So many cases where `SEALBUS_ALL_CASES` is set, as `make nightly` does, and the first tenth of them otherwise.
pub fn cases(all: u64) -> u64 {
    if std::env::var_os("SEALBUS_ALL_CASES").is_some() { all } else { all.div_ceil(10) }
}
