//! The table of methods: name, permission, number of parameters and handler.

use serde_json::Value;

use super::auth::{
    self,
    Permission::{self, Admin, Read, Sign, Write},
};
use super::error::RpcError;
use super::params::Params;
use super::{actor, blocks, call, chain, control, gas, miner, mpool, randomness, replay, sector, state, wallet};
use crate::devnet::node::Node;

type Handler = fn(&mut Node, &Params<'_>) -> Result<Value, RpcError>;

/// A method.
pub struct Method {
    /// The full name.
    pub name: &'static str,
    /// The permission that a token must have.
    pub permission: Permission,
    /// The number of parameters.
    pub parameters: usize,
    /// The function that carries it out.
    pub handler: Handler,
}

const fn method(name: &'static str, permission: Permission, parameters: usize, handler: Handler) -> Method {
    Method { name, permission, parameters, handler }
}

#[rustfmt::skip]
static METHODS: &[Method] = &[
    method("Filecoin.Version", Read, 0, chain::version),
    method("Filecoin.AuthVerify", Read, 1, auth::verify),
    method("Filecoin.ChainHead", Read, 0, chain::chain_head),
    method("Filecoin.ChainGetTipSet", Read, 1, chain::chain_get_tipset),
    method("Filecoin.ChainGetTipSetByHeight", Read, 2, chain::chain_get_tipset_by_height),
    method("Filecoin.ChainGetTipSetAfterHeight", Read, 2, chain::chain_get_tipset_after_height),
    method("Filecoin.ChainGetMessagesInTipset", Read, 1, replay::messages_in_tipset),
    method("Filecoin.ChainGetPath", Read, 2, chain::chain_get_path),
    method("Filecoin.ChainTipSetWeight", Read, 1, blocks::weight),
    method("Filecoin.ChainNotify", Read, 0, chain::chain_notify),
    method("Filecoin.ChainReadObj", Read, 1, actor::read_object),
    method("Filecoin.ChainGetGenesis", Read, 0, chain::chain_get_genesis),
    method("Filecoin.StateNetworkName", Read, 0, state::network_name),
    method("Filecoin.StateNetworkVersion", Read, 1, state::network_version),
    method("Filecoin.StateGetNetworkParams", Read, 0, state::network_params),
    method("Filecoin.StateGetActor", Read, 2, state::get_actor),
    method("Filecoin.StateAccountKey", Read, 2, state::account_key),
    method("Filecoin.StateLookupID", Read, 2, state::lookup_id),
    method("Filecoin.StateReplay", Read, 2, replay::replay),
    method("Filecoin.StateListMiners", Read, 1, state::list_miners),
    method("Filecoin.StateReadState", Read, 2, actor::read_state),
    method("Filecoin.StateCall", Read, 2, call::state_call),
    method("Filecoin.StateCirculatingSupply", Read, 1, actor::circulating_supply),
    method("Filecoin.StateVMCirculatingSupplyInternal", Read, 1, actor::circulating_supply_internal),
    method("Filecoin.StateSearchMsg", Read, 4, state::search_message),
    method("Filecoin.StateGetRandomnessFromTickets", Read, 4, randomness::from_tickets),
    method("Filecoin.StateGetRandomnessFromBeacon", Read, 4, randomness::from_beacon),
    method("Filecoin.StateGetRandomnessDigestFromTickets", Read, 2, randomness::digest_from_tickets),
    method("Filecoin.StateGetRandomnessDigestFromBeacon", Read, 2, randomness::digest_from_beacon),
    method("Filecoin.StateMinerInfo", Read, 2, miner::info),
    method("Filecoin.StateMinerPower", Read, 2, miner::power),
    method("Filecoin.StateMinerAvailableBalance", Read, 2, miner::available_balance),
    method("Filecoin.StateMinerProvingDeadline", Read, 2, miner::proving_deadline),
    method("Filecoin.StateMinerDeadlines", Read, 2, miner::deadlines),
    method("Filecoin.StateMinerPartitions", Read, 3, miner::partitions),
    method("Filecoin.StateMinerPreCommitDepositForPower", Read, 3, miner::pre_commit_deposit),
    method("Filecoin.StateMinerInitialPledgeForSector", Read, 4, miner::initial_pledge),
    method("Filecoin.StateMinerCreationDeposit", Read, 1, miner::creation_deposit),
    method("Filecoin.StateMinerSectors", Read, 3, sector::sectors),
    method("Filecoin.StateMinerActiveSectors", Read, 2, sector::active_sectors),
    method("Filecoin.StateMinerFaults", Read, 2, sector::faults),
    method("Filecoin.StateMinerRecoveries", Read, 2, sector::recoveries),
    method("Filecoin.StateMinerSectorCount", Read, 2, sector::count),
    method("Filecoin.StateMinerAllocated", Read, 2, sector::allocated),
    method("Filecoin.StateMinerSectorAllocated", Read, 3, sector::is_allocated),
    method("Filecoin.StateSectorGetInfo", Read, 3, sector::info),
    method("Filecoin.StateSectorPreCommitInfo", Read, 3, sector::pre_commit_info),
    method("Filecoin.StateSectorPartition", Read, 3, sector::partition),
    method("Filecoin.StateSectorExpiration", Read, 3, sector::expiration),
    method("Filecoin.WalletBalance", Read, 1, wallet::balance),
    method("Filecoin.WalletHas", Write, 1, wallet::has),
    method("Filecoin.WalletList", Write, 0, wallet::list),
    method("Filecoin.WalletSign", Sign, 2, wallet::sign),
    method("Filecoin.WalletSignMessage", Sign, 2, wallet::sign_message),
    method("Filecoin.MpoolGetNonce", Read, 1, mpool::get_nonce),
    method("Filecoin.MpoolPush", Write, 1, mpool::push),
    method("Filecoin.MpoolPending", Read, 1, mpool::pending),
    method("Filecoin.MpoolSelect", Read, 2, blocks::select_messages),
    method("Filecoin.StateGetBeaconEntry", Read, 1, blocks::beacon_entry),
    method("Filecoin.MinerGetBaseInfo", Read, 3, blocks::base_info),
    method("Filecoin.MinerCreateBlock", Sign, 1, blocks::create),
    method("Filecoin.SyncSubmitBlock", Write, 1, blocks::submit),
    method("Filecoin.GasEstimateMessageGas", Read, 3, gas::estimate_message_gas),
    method("Devnet.Advance", Admin, 1, control::advance),
    method("Devnet.NullRounds", Admin, 1, control::null_rounds),
    method("Devnet.Reorganise", Admin, 2, control::reorganise),
    method("Devnet.Upgrade", Admin, 1, control::upgrade),
    method("Devnet.SetEpochMillis", Admin, 1, control::set_epoch_millis),
    method("Devnet.Fault", Admin, 1, control::fault),
    method("Devnet.Stats", Read, 0, control::stats),
];

impl Method {
    /// The method with this full name.
    pub fn find(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// The name without its namespace.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_is_listed_twice() {
        let mut names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
    }
}
