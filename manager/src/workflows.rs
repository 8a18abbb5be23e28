//! What the manager's side of each workflow is, a folder each.

pub mod seal;
