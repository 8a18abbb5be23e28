//! The manager's side of sealing.

mod table;
