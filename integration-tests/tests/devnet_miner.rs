//! The miner's and the power actor's methods for a sector's care and an owner's errands.

#[path = "devnet_support/chain.rs"]
mod chain;

#[path = "devnet_miner/base_fee.rs"]
mod base_fee;
#[path = "devnet_miner/batches.rs"]
mod batches;
#[path = "devnet_miner/care.rs"]
mod care;
#[path = "devnet_miner/creation.rs"]
mod creation;
#[path = "devnet_miner/errands.rs"]
mod errands;
#[path = "devnet_miner/upgrade.rs"]
mod upgrade;

use fvm_ipld_bitfield::BitField;
use fvm_shared::econ::TokenAmount;

fn bits(numbers: &[u64]) -> BitField {
    BitField::try_from_bits(numbers.iter().copied()).expect("bits")
}

fn nothing() -> TokenAmount {
    TokenAmount::default()
}
