//! Proving: deadlines, window PoSts, faults and recoveries, with a scripted verifier for proofs.

#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_support/proving.rs"]
mod proving;

#[path = "devnet_proving/declarations.rs"]
mod declarations;
#[path = "devnet_proving/disputes.rs"]
mod disputes;
#[path = "devnet_proving/ends.rs"]
mod ends;
#[path = "devnet_proving/submissions.rs"]
mod submissions;

use fvm_shared::econ::TokenAmount;

fn nothing() -> TokenAmount {
    TokenAmount::default()
}
