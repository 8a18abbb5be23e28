//! The worker and the control addresses.
//!
//! One method sets both. So a change of one repeats the other as it is. A change of the worker takes two messages: the
//! second one is possible 900 epochs after the first.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{
    address::{Address, Protocol},
    econ::TokenAmount,
};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{Draft, Refusal, Role, encoded};
use crate::{
    chain::{
        params::{
            CONTROL_ADDRESSES_MAX, ChangeWorkerAddressParams, METHOD_CHANGE_WORKER_ADDRESS,
            METHOD_CONFIRM_CHANGE_WORKER_ADDRESS, WORKER_CHANGE_DELAY,
        },
        types::{Epoch, MinerInfo},
    },
    drive::address,
};

/// An account: what a person named, and what the chain makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its ID address.
    pub id: Address,
    /// Its key.
    pub key: Address,
}

/// Sets all control addresses. The worker stays.
pub fn set_control(miner: MinerId, info: &MinerInfo, control: &[Account]) -> Result<Draft, Refusal> {
    const FIELD: &str = "control addresses";
    if control.len() > CONTROL_ADDRESSES_MAX {
        return Err(Refusal::TooMany { field: FIELD, count: control.len(), most: CONTROL_ADDRESSES_MAX });
    }
    let ids: Vec<Address> = control.iter().map(|account| account.id).collect();
    if let Some(address) = ids.iter().enumerate().find_map(|(at, id)| ids[..at].contains(id).then_some(*id)) {
        return Err(Refusal::Twice { field: FIELD, address });
    }
    let is_same = ids.len() == info.control_addresses.len() && ids.iter().all(|id| info.control_addresses.contains(id));
    if is_same {
        return Err(Refusal::NoChange { field: FIELD, value: listed(&ids) });
    }
    let was = listed(&info.control_addresses);
    let what = format!("set the control addresses of {miner} to {} (were: {was})", listed(&ids));
    let follows = "it is in force once the message lands. An address that is left out can no longer send for the miner: \
                   look at `sender` in the configuration first";
    let detail = json!({ "control": texts(&ids), "was": texts(&info.control_addresses) });
    change(miner, info, ("set_control", what, follows.to_owned(), detail), info.worker, ids)
}

/// Proposes another worker. The control addresses stay.
pub fn change_worker(miner: MinerId, info: &MinerInfo, worker: Account) -> Result<Draft, Refusal> {
    if worker.id == info.worker {
        return Err(Refusal::NoChange { field: "worker", value: worker.id.to_string() });
    }
    if let Some(pending) = info.new_worker {
        return Err(Refusal::ChangePending { pending, from: info.worker_change_epoch });
    }
    if worker.key.protocol() != Protocol::BLS {
        return Err(Refusal::NotBls { field: "worker", address: worker.key });
    }
    let (id, was) = (worker.id, info.worker);
    let what = format!("propose {id} ({}) as the worker of {miner}, instead of {was}", worker.key);
    let follows = format!(
        "{WORKER_CHANGE_DELAY} epochs after it lands: `miners worker confirm {miner}`. Until then {was} stays the worker"
    );
    let detail = json!({ "worker": id.to_string(), "key": worker.key.to_string(), "was": was.to_string() });
    change(miner, info, ("change_worker", what, follows, detail), id, info.control_addresses.clone())
}

/// Confirms the change of the worker.
pub fn confirm_worker(miner: MinerId, info: &MinerInfo, head: Epoch) -> Result<Draft, Refusal> {
    let Some(pending) = info.new_worker else { return Err(Refusal::NothingPending { what: "worker" }) };
    let from = info.worker_change_epoch;
    if head < from {
        return Err(Refusal::TooEarly { pending, from, head });
    }
    Ok(Draft {
        miner: Some(miner),
        kind: "confirm_worker",
        role: Role::Owner,
        sender: info.owner,
        receiver: address(miner),
        method: METHOD_CONFIRM_CHANGE_WORKER_ADDRESS,
        params: RawBytes::default(),
        value: TokenAmount::default(),
        what: format!("make {pending} the worker of {miner}, instead of {}", info.worker),
        follows:
            "it is in force once the message lands. The new worker's key must then be where the manager signs, and it \
                  needs funds if it is the sender"
                .to_owned(),
        detail: json!({ "worker": pending.to_string(), "was": info.worker.to_string() }),
    })
}

fn change(
    miner: MinerId,
    info: &MinerInfo,
    (kind, what, follows, detail): (&'static str, String, String, Value),
    new_worker: Address,
    new_control_addresses: Vec<Address>,
) -> Result<Draft, Refusal> {
    Ok(Draft {
        miner: Some(miner),
        kind,
        role: Role::Owner,
        sender: info.owner,
        receiver: address(miner),
        method: METHOD_CHANGE_WORKER_ADDRESS,
        params: encoded(&ChangeWorkerAddressParams { new_worker, new_control_addresses })?,
        value: TokenAmount::default(),
        what,
        follows,
        detail,
    })
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn listed(addresses: &[Address]) -> String {
    if addresses.is_empty() { "none".to_owned() } else { texts(addresses).join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MINER, id, info},
        *,
    };

    fn account(number: u64) -> Account {
        Account { id: id(number), key: Address::new_bls(&[number as u8; 48]).expect("an address") }
    }

    fn params(draft: &Draft) -> ChangeWorkerAddressParams {
        fvm_ipld_encoding::from_slice(&draft.params).expect("parameters")
    }

    #[test]
    fn control_addresses_change_and_the_worker_stays() {
        let draft = set_control(MINER, &info(), &[account(103), account(102)]).expect("a draft");
        let ChangeWorkerAddressParams { new_worker, new_control_addresses } = params(&draft);
        assert_eq!((new_worker, new_control_addresses), (id(101), vec![id(103), id(102)]));
        assert_eq!((draft.sender, draft.method), (id(100), 3));
        let none = set_control(MINER, &info(), &[]).expect("a draft");
        assert!(none.what.contains("to none (were: f0102)"), "{}", none.what);
    }

    #[test]
    fn control_addresses_that_change_nothing_or_cannot_be_are_refused() {
        let refused = |accounts: &[Account]| set_control(MINER, &info(), accounts).expect_err("refused");
        assert!(matches!(refused(&[account(102)]), Refusal::NoChange { .. }));
        assert!(matches!(refused(&[account(103), account(103)]), Refusal::Twice { .. }));
        let many: Vec<_> = (0..11).map(account).collect();
        assert!(matches!(refused(&many), Refusal::TooMany { count: 11, most: 10, .. }));
    }

    #[test]
    fn a_worker_changes_in_two_steps() {
        let draft = change_worker(MINER, &info(), account(150)).expect("a draft");
        let ChangeWorkerAddressParams { new_worker, new_control_addresses } = params(&draft);
        assert_eq!((new_worker, new_control_addresses), (id(150), vec![id(102)]));
        let mut pending = info();
        (pending.new_worker, pending.worker_change_epoch) = (Some(id(150)), 1000);
        assert!(matches!(change_worker(MINER, &pending, account(160)), Err(Refusal::ChangePending { .. })));
        assert!(matches!(confirm_worker(MINER, &pending, 999), Err(Refusal::TooEarly { from: 1000, .. })));
        let draft = confirm_worker(MINER, &pending, 1000).expect("a draft");
        assert_eq!((draft.sender, draft.method, draft.params), (id(100), 21, RawBytes::default()));
        assert!(matches!(confirm_worker(MINER, &info(), 1000), Err(Refusal::NothingPending { .. })));
    }

    #[test]
    fn a_worker_needs_a_bls_key_and_another_address() {
        let secp = Account { id: id(150), key: Address::new_secp256k1(&[4; 65]).expect("an address") };
        assert!(matches!(change_worker(MINER, &info(), secp), Err(Refusal::NotBls { .. })));
        assert!(matches!(change_worker(MINER, &info(), account(101)), Err(Refusal::NoChange { .. })));
    }
}
