//! Parts that only tests and the demo need. Read [`devnet`] first: it is the chain that everything else is tested against.

pub mod devnet;
