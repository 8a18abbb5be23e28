//! What became of an errand, in words.

use fvm_ipld_encoding::from_slice;

use super::{create::CREATE, fil::shown, money::WITHDRAW};
use crate::{
    chain::params::{CreateMinerReturn, WithdrawBalanceReturn},
    store::{Errand, ErrandState},
};

/// What an errand is about, and what it returned or why it ended.
pub fn in_words(errand: &Errand) -> String {
    let what = errand.asked.detail["what"].as_str().unwrap_or(&errand.asked.kind);
    match returned(errand).or_else(|| errand.error.clone()) {
        Some(outcome) => format!("{what}: {outcome}"),
        None => what.to_owned(),
    }
}

fn returned(errand: &Errand) -> Option<String> {
    let returned = errand.returned.as_deref().filter(|_| errand.state == ErrandState::Landed)?;
    match errand.asked.kind.as_str() {
        CREATE => {
            let created: CreateMinerReturn = from_slice(returned).ok()?;
            Some(format!("the miner is {}", created.id_address))
        }
        WITHDRAW => {
            let withdrawn: WithdrawBalanceReturn = from_slice(returned).ok()?;
            Some(format!("{} FIL were withdrawn", shown(&withdrawn.amount_withdrawn)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use fvm_ipld_encoding::to_vec;
    use fvm_shared::{address::Address, econ::TokenAmount};
    use serde_json::json;

    use super::*;
    use crate::{
        errands::desk::NO_MINER,
        store::{ErrandId, NewErrand},
    };

    fn errand(kind: &str, returned: Vec<u8>) -> Errand {
        Errand {
            id: ErrandId(7),
            asked: NewErrand {
                miner: NO_MINER,
                kind: kind.to_owned(),
                sender: "f0100".to_owned(),
                receiver: "f04".to_owned(),
                method: 2,
                params: vec![],
                value_atto: "0".to_owned(),
                detail: json!({ "what": "do it" }),
                asked_by: "alice".to_owned(),
            },
            asked_at: String::new(),
            state: ErrandState::Landed,
            epoch: Some(1),
            exit_code: Some(0),
            returned: Some(returned),
            error: None,
        }
    }

    #[test]
    fn a_new_miner_and_what_was_withdrawn_are_told() {
        let created = CreateMinerReturn { id_address: Address::new_id(1002), robust_address: Address::new_actor(b"x") };
        let created = errand(CREATE, to_vec(&created).expect("encodes"));
        assert_eq!(in_words(&created), "do it: the miner is f01002");
        let withdrawn = WithdrawBalanceReturn { amount_withdrawn: TokenAmount::from_whole(3) };
        let withdrawn = errand(WITHDRAW, to_vec(&withdrawn).expect("encodes"));
        assert_eq!(in_words(&withdrawn), "do it: 3 FIL were withdrawn");
        let failed = Errand { state: ErrandState::Failed, error: Some("exit code 18".to_owned()), ..withdrawn };
        assert_eq!(in_words(&failed), "do it: exit code 18");
        assert_eq!(in_words(&errand("extend", vec![])), "do it");
    }
}
