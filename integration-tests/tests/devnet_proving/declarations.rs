//! DeclareFaults and DeclareFaultsRecovered.

use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::faults::Fault;

use crate::chain::{Chain, MINER, encode};
use crate::nothing;
use crate::proving::{FAULTS, RECOVERED, bits, proving};

#[test]
fn a_declared_fault_is_faulty_at_once_and_costs_the_fee_when_its_deadline_closes() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(TokenAmount::from_whole(1));
    let (place, funds) = (chain.place(8), chain.miner().actor.balance);
    assert_eq!(chain.declare(FAULTS, 8, place).exit_code.value(), 0);
    assert!(chain.is_faulty(8) && chain.is_active(7));
    assert_eq!(chain.miner().actor.balance, funds);
    chain.prove_window(7, &[]);
    chain.past_deadline(7);
    let end = chain.ends().pop().expect("an end");
    assert!(end.faulty.is_empty() && end.fault_fee.is_positive());
}

#[test]
fn a_declaration_that_breaks_a_rule_is_refused() {
    let chain = Chain::with(Config { proving: true, miners: 2, ..Config::default() });
    chain.proven(&[7, 8]);
    chain.fund(TokenAmount::from_whole(1));
    let place = chain.place(7);
    for (method, name) in [(FAULTS, "fault"), (RECOVERED, "recovery")] {
        assert_eq!(chain.declare(method, 7, (48, 0)).exit_code.value(), 16);
        assert_eq!(chain.declare(method, 7, (place.0, 9)).exit_code.value(), 17);
        assert_eq!(chain.declare(method, 99, place).exit_code.value(), 16);
        assert!(chain.last_error().contains("not all sectors are assigned"), "{}", chain.last_error());
        let stranger = chain.node(|node| node.miners[1].worker_key);
        let none = encode(&fil_actor_miner_state::v19::DeclareFaultsParams { faults: vec![] });
        assert_eq!(chain.send_from(stranger, method, none, nothing()).exit_code.value(), 18, "{name}");
    }
    // The last epoch for a declaration is the one before the cutoff.
    let info = chain.deadline_of(7);
    chain.skip_to(info.fault_cutoff - 1);
    for (method, name) in [(FAULTS, "fault"), (RECOVERED, "recovery")] {
        assert_eq!(chain.declare(method, 7, place).exit_code.value(), 16, "{name}");
        assert!(chain.last_error().contains(&format!("failed {name} declaration")), "{}", chain.last_error());
    }
    assert!(!chain.is_faulty(7));
    chain.prove_window(7, &[]);
    let info = chain.past_deadline(7).next_not_elapsed();
    chain.skip_to(info.fault_cutoff + 2880 - 2);
    assert_eq!(chain.declare(FAULTS, 7, place).exit_code.value(), 0, "{}", chain.last_error());
}

#[test]
fn a_recovery_of_what_is_not_faulty_or_recovers_already_is_ignored() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(TokenAmount::from_whole(1));
    let place = chain.place(7);
    assert_eq!(chain.declare(RECOVERED, 7, place).exit_code.value(), 0);
    assert!(chain.is_active(7) && !chain.is_recovering(7));
    assert_eq!(chain.declare(FAULTS, 7, place).exit_code.value(), 0);
    for _ in 0..2 {
        assert_eq!(chain.declare(RECOVERED, 7, place).exit_code.value(), 0);
        assert!(chain.is_faulty(7) && chain.is_recovering(7));
    }
    assert_eq!(chain.partition(place.0, place.1).recoveries, bits(&[7]));
}

#[test]
fn a_recovery_pays_all_debts_first_or_fails() {
    let chain = proving();
    chain.proven(&[7]);
    let place = chain.place(7);
    assert_eq!(chain.declare(FAULTS, 7, place).exit_code.value(), 0);
    chain.withdraw_all();
    chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto: 5 }));
    chain.advance(2);
    assert_eq!(chain.declare(RECOVERED, 7, place).exit_code.value(), 19);
    assert!(!chain.is_recovering(7));
    chain.fund(TokenAmount::from_atto(7));
    let (had, total) = (chain.miner().actor.balance, chain.total());
    assert_eq!(chain.declare(RECOVERED, 7, place).exit_code.value(), 0);
    assert_eq!(
        (had - chain.miner().actor.balance, chain.miner().state.fee_debt),
        (TokenAmount::from_atto(5), nothing())
    );
    assert_eq!(chain.total(), total);
    assert!(chain.is_recovering(7));
}

#[test]
fn no_recovery_is_declared_while_a_consensus_fault_is_punished() {
    let chain = proving();
    chain.proven(&[7]);
    let place = chain.place(7);
    assert_eq!(chain.declare(FAULTS, 7, place).exit_code.value(), 0);
    chain.fund(TokenAmount::from_whole(1_000));
    chain.node(|node| node.inject(Fault::ConsensusFault { miner: MINER }));
    chain.advance(2);
    assert_eq!(chain.declare(RECOVERED, 7, place).exit_code.value(), 18);
    assert!(chain.last_error().contains("consensus fault"), "{}", chain.last_error());
    chain.skip_to(chain.height() + 901);
    assert_eq!(chain.declare(RECOVERED, 7, chain.place(7)).exit_code.value(), 0, "{}", chain.last_error());
}
