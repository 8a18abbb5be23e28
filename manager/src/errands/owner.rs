//! The owner and the beneficiary.
//!
//! The owner changes in two steps: the owner proposes an address, and that address confirms. A beneficiary who is not
//! the owner is proposed by the owner, and approved by itself and by the present one as long as that has a term
//! (FIP-0029).

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::json;

use super::{Draft, Refusal, Role, encoded, fil::shown};
use crate::{
    chain::{
        params::{ChangeBeneficiaryParams, METHOD_CHANGE_BENEFICIARY, METHOD_CHANGE_OWNER_ADDRESS},
        types::{Epoch, MinerInfo},
    },
    drive::address,
};

/// Proposes another owner by its ID address. The present owner as the proposal takes an earlier one back.
pub fn propose(miner: MinerId, info: &MinerInfo, new: Address) -> Result<Draft, Refusal> {
    let takes_back = new == info.owner;
    match info.pending_owner_address {
        None if takes_back => return Err(Refusal::NoChange { field: "owner", value: new.to_string() }),
        Some(pending) if pending == new => {
            return Err(Refusal::NoChange { field: "the proposed owner", value: new.to_string() });
        }
        _ => {}
    }
    let (what, follows) = match takes_back {
        true => (format!("take back the proposal of another owner of {miner}"), format!("{new} stays the owner")),
        false => (
            format!("propose {new} as the owner of {miner}, instead of {}", info.owner),
            format!(
                "until {new} confirms (`miners owner confirm {miner}`) nothing changes, and the proposal can be taken back \
                 (`miners owner change {miner} {}`). After that this owner can do nothing more",
                info.owner
            ),
        ),
    };
    change_owner(miner, info, Role::Owner, info.owner, new, (what, follows))
}

/// Confirms the proposed owner, from its own address.
pub fn confirm(miner: MinerId, info: &MinerInfo) -> Result<Draft, Refusal> {
    let Some(new) = info.pending_owner_address else { return Err(Refusal::NothingPending { what: "owner" }) };
    let what = format!("make {new} the owner of {miner}, instead of {}", info.owner);
    let mut follows = "it is in force once the message lands; it cannot be taken back".to_owned();
    if info.beneficiary.is_none_or(|beneficiary| beneficiary == info.owner) {
        follows.push_str("; the new owner is the beneficiary too");
    }
    change_owner(miner, info, Role::ProposedOwner, new, new, (what, follows))
}

fn change_owner(
    miner: MinerId,
    info: &MinerInfo,
    role: Role,
    sender: Address,
    new: Address,
    (what, follows): (String, String),
) -> Result<Draft, Refusal> {
    Ok(Draft {
        miner: Some(miner),
        kind: if role == Role::Owner { "change_owner" } else { "confirm_owner" },
        role,
        sender,
        receiver: address(miner),
        method: METHOD_CHANGE_OWNER_ADDRESS,
        params: encoded(&new)?,
        value: TokenAmount::default(),
        what,
        follows,
        detail: json!({ "owner": new.to_string(), "was": info.owner.to_string() }),
    })
}

/// A proposed beneficiary with its term. The owner has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// How much it may withdraw in all.
    pub quota: TokenAmount,
    /// Until which epoch.
    pub until: Epoch,
}

/// Proposes another beneficiary by its ID address: one with a term, or the owner without one.
pub fn propose_beneficiary(
    miner: MinerId,
    info: &MinerInfo,
    new: Address,
    term: Option<Term>,
    head: Epoch,
) -> Result<Draft, Refusal> {
    let is_owner = new == info.owner;
    let bad = |field, problem: String| Err(Refusal::BadTerm { field, problem });
    let (quota, until) = match term {
        Some(_) if is_owner => {
            return bad("--quota", "the owner has neither a quota nor a term: leave them out".to_owned());
        }
        None if is_owner && info.beneficiary.is_none_or(|beneficiary| beneficiary == new) => {
            return Err(Refusal::NoChange { field: "beneficiary", value: new.to_string() });
        }
        None if is_owner => (TokenAmount::default(), 0),
        None => return bad("--quota", "a beneficiary who is not the owner needs --quota and --until".to_owned()),
        Some(term) if !term.quota.is_positive() => return Err(Refusal::NotPositive { field: "--quota" }),
        Some(term) if term.until <= head => {
            return bad("--until", format!("epoch {} is past; the head is at {head}", term.until));
        }
        Some(term) => (term.quota, term.until),
    };
    let what = match is_owner {
        true => format!("propose the owner {new} as the beneficiary of {miner}"),
        false => format!("propose {new} as the beneficiary of {miner}, for {} FIL until epoch {until}", shown(&quota)),
    };
    let follows = format!(
        "whoever is concerned approves it: `miners beneficiary confirm {miner}` by {new}, and by the present one while its \
         term lasts; `miners info {miner}` shows who has"
    );
    change_beneficiary(miner, Role::Owner, info.owner, (new, quota, until), (what, follows))
}

/// Approves the proposed beneficiary: as the proposed one, or as the present one.
pub fn confirm_beneficiary(miner: MinerId, info: &MinerInfo, by: Role) -> Result<Draft, Refusal> {
    let Some(pending) = &info.pending_beneficiary_term else {
        return Err(Refusal::NothingPending { what: "beneficiary" });
    };
    let (sender, is_approved) = match by {
        Role::Beneficiary => (info.beneficiary.unwrap_or(info.owner), pending.approved_by_beneficiary),
        _ => (pending.new_beneficiary, pending.approved_by_nominee),
    };
    if is_approved {
        let value = format!("approved by {sender}");
        return Err(Refusal::NoChange { field: "the proposed beneficiary", value });
    }
    let new = pending.new_beneficiary;
    let what = format!("approve {new} as the beneficiary of {miner}, as its {}", by.words());
    let follows = "it is in force once all concerned have approved it".to_owned();
    let terms = (new, pending.new_quota.clone(), pending.new_expiration);
    change_beneficiary(miner, by, sender, terms, (what, follows))
}

fn change_beneficiary(
    miner: MinerId,
    role: Role,
    sender: Address,
    (new, quota, until): (Address, TokenAmount, Epoch),
    (what, follows): (String, String),
) -> Result<Draft, Refusal> {
    let detail = json!({ "beneficiary": new.to_string(), "quota_atto": quota.atto().to_string(), "until": until });
    Ok(Draft {
        miner: Some(miner),
        kind: if role == Role::Owner { "propose_beneficiary" } else { "confirm_beneficiary" },
        role,
        sender,
        receiver: address(miner),
        method: METHOD_CHANGE_BENEFICIARY,
        params: encoded(&ChangeBeneficiaryParams { new_beneficiary: new, new_quota: quota, new_expiration: until })?,
        value: TokenAmount::default(),
        what,
        follows,
        detail,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MINER, id, info},
        *,
    };
    use crate::chain::types::PendingBeneficiary;

    fn owner_of(draft: &Draft) -> Address {
        fvm_ipld_encoding::from_slice(&draft.params).expect("an address")
    }

    #[test]
    fn an_owner_proposes_and_the_proposed_one_confirms() {
        let proposed = propose(MINER, &info(), id(200)).expect("a draft");
        assert_eq!((proposed.sender, proposed.role, owner_of(&proposed)), (id(100), Role::Owner, id(200)));
        let mut pending = info();
        pending.pending_owner_address = Some(id(200));
        let confirmed = confirm(MINER, &pending).expect("a draft");
        assert_eq!((confirmed.sender, confirmed.method, owner_of(&confirmed)), (id(200), 23, id(200)));
        let taken_back = propose(MINER, &pending, id(100)).expect("a draft");
        assert_eq!((taken_back.sender, owner_of(&taken_back)), (id(100), id(100)));
    }

    #[test]
    fn proposals_that_change_nothing_are_refused() {
        let mut pending = info();
        pending.pending_owner_address = Some(id(200));
        assert!(matches!(propose(MINER, &pending, id(200)), Err(Refusal::NoChange { .. })));
        assert!(matches!(propose(MINER, &info(), id(100)), Err(Refusal::NoChange { .. })));
        assert!(matches!(confirm(MINER, &info()), Err(Refusal::NothingPending { what: "owner" })));
    }

    #[test]
    fn a_beneficiary_has_a_term_unless_it_is_the_owner() {
        let term = |whole, until| Some(Term { quota: TokenAmount::from_whole(whole), until });
        let draft = propose_beneficiary(MINER, &info(), id(300), term(5, 900), 100).expect("a draft");
        let params: ChangeBeneficiaryParams = fvm_ipld_encoding::from_slice(&draft.params).expect("parameters");
        assert_eq!((params.new_beneficiary, params.new_expiration), (id(300), 900));
        for (new, term, field) in [
            (300, None, "--quota"),
            (300, term(0, 900), "--quota"),
            (300, term(5, 100), "--until"),
            (100, term(5, 900), "--quota"),
            (100, None, "beneficiary"),
        ] {
            let refused = propose_beneficiary(MINER, &info(), id(new), term, 100).expect_err("refused").to_string();
            assert!(refused.contains(field), "{refused}");
        }
        let mut other = info();
        other.beneficiary = Some(id(300));
        let back = propose_beneficiary(MINER, &other, id(100), None, 100).expect("a draft");
        let params: ChangeBeneficiaryParams = fvm_ipld_encoding::from_slice(&back.params).expect("parameters");
        assert_eq!((params.new_quota, params.new_expiration), (TokenAmount::default(), 0));
    }

    #[test]
    fn whoever_has_not_approved_yet_approves_with_the_same_terms() {
        let mut pending = info();
        pending.pending_beneficiary_term = Some(PendingBeneficiary {
            new_beneficiary: id(300),
            new_quota: TokenAmount::from_whole(5),
            new_expiration: 900,
            approved_by_beneficiary: true,
            approved_by_nominee: false,
        });
        let draft = confirm_beneficiary(MINER, &pending, Role::ProposedBeneficiary).expect("a draft");
        let params: ChangeBeneficiaryParams = fvm_ipld_encoding::from_slice(&draft.params).expect("parameters");
        assert_eq!((draft.sender, params.new_quota), (id(300), TokenAmount::from_whole(5)));
        let again = confirm_beneficiary(MINER, &pending, Role::Beneficiary);
        assert!(matches!(again, Err(Refusal::NoChange { .. })));
        let nothing = confirm_beneficiary(MINER, &info(), Role::Beneficiary);
        assert!(matches!(nothing, Err(Refusal::NothingPending { .. })));
    }
}
