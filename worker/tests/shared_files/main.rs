//! Files and memory that all sectors of a worker share: the tree D of zeros, the parent cache, huge pages.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "../processor/support.rs"]
#[allow(dead_code)]
mod support;

mod huge_pages;
mod parent_cache;
mod static_tree_d;
