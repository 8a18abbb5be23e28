//! The end of a deadline: faults, fees, expirations and terminations.

use fil_actor_miner_state::v19::{
    ChangeWorkerAddressParams, daily_proof_fee_payable, expected_reward_for_power, pledge_penalty_for_continued_fault,
    pledge_penalty_for_termination, qa_power_for_sector,
};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::faults::Fault;

use crate::chain::{Chain, MINER, encode};
use crate::nothing;
use crate::proving::{FAULTS, RECOVERED, proving};

/// The fee for a proving period in which this sector was faulty.
fn fault_fee(chain: &Chain, sector: u64) -> TokenAmount {
    let sector = chain.on_chain_sector(sector).expect("on chain");
    chain.node(|node| {
        let (power, economics) = (qa_power_for_sector(node.config.sector_size, &sector), &node.economics);
        pledge_penalty_for_continued_fault(&economics.reward, &economics.network_qa_power, &power)
    })
}

/// The daily fee of a sector that is alone in its deadline.
fn daily_fee(chain: &Chain, sector: u64) -> TokenAmount {
    let sector = chain.on_chain_sector(sector).expect("on chain");
    chain.node(|node| {
        let (power, economics) = (qa_power_for_sector(node.config.sector_size, &sector), &node.economics);
        let reward = expected_reward_for_power(&economics.reward, &economics.network_qa_power, &power, 2880);
        daily_proof_fee_payable(&node.policy, &sector.daily_fee, &reward)
    })
}

fn burnt(chain: &Chain) -> TokenAmount {
    chain.balance(Address::new_id(99))
}

#[test]
fn a_proven_sector_pays_its_daily_fee_and_nothing_else() {
    let chain = proving();
    chain.proven(&[7]);
    chain.prove_window(7, &[]);
    let (before, total, had) = (burnt(&chain), chain.total(), chain.miner().actor.balance);
    chain.past_deadline(7);
    let fee = daily_fee(&chain, 7);
    assert!(fee.is_positive());
    assert_eq!(had - chain.miner().actor.balance, fee);
    assert_eq!(burnt(&chain) - before, fee);
    assert_eq!(chain.total(), total, "every attoFIL is somewhere");
    let end = chain.ends().pop().expect("an end");
    assert_eq!((&end.daily_fee, &end.burnt, &end.fault_fee), (&fee, &fee, &nothing()));
    assert!(chain.is_active(7) && end.faulty.is_empty());
}

#[test]
fn a_missed_proof_makes_sectors_faulty_and_the_fee_begins_a_period_later() {
    let chain = proving();
    chain.proven(&[7]);
    chain.fund(TokenAmount::from_whole(1));
    chain.past_deadline(7);
    assert!(chain.is_faulty(7) && !chain.is_active(7));
    let first = chain.ends().pop().expect("an end");
    assert_eq!((first.faulty.as_slice(), &first.fault_fee), (&[7][..], &nothing()));

    let (before, total) = (burnt(&chain), chain.total());
    chain.past_deadline(7);
    let (fault, daily) = (fault_fee(&chain, 7), daily_fee(&chain, 7));
    assert!(fault.is_positive());
    let second = chain.ends().pop().expect("an end");
    assert_eq!((second.faulty.as_slice(), &second.fault_fee, &second.daily_fee), (&[][..], &fault, &daily));
    assert_eq!(burnt(&chain) - before, fault + daily);
    assert_eq!(chain.total(), total);
}

#[test]
fn a_sector_that_is_never_proven_becomes_faulty_when_its_deadline_first_closes() {
    let chain = proving();
    chain.unproven(&[7]);
    let info = chain.deadline_of(7);
    chain.skip_to(info.close - 1);
    assert!(!chain.is_faulty(7) && !chain.is_active(7));
    chain.advance(1);
    assert!(chain.is_faulty(7));
}

#[test]
fn a_recovery_that_is_not_proven_fails() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(TokenAmount::from_whole(1));
    assert_eq!(chain.declare(FAULTS, 8, chain.place(8)).exit_code.value(), 0);
    assert_eq!(chain.declare(RECOVERED, 8, chain.place(8)).exit_code.value(), 0);
    chain.past_deadline(8);
    assert!(chain.is_faulty(8) && !chain.is_recovering(8) && chain.is_faulty(7));
    let end = chain.ends().pop().expect("an end");
    assert_eq!((end.faulty.as_slice(), end.not_recovered.as_slice()), (&[7][..], &[8][..]));
}

#[test]
fn a_fee_that_cannot_be_paid_becomes_debt_and_is_paid_from_later_funds() {
    let chain = proving();
    chain.proven(&[7]);
    chain.withdraw_all();
    let total = chain.total();
    chain.past_deadline(7);
    chain.past_deadline(7);
    let state = chain.miner().state;
    assert!(state.fee_debt.is_positive());
    assert_eq!(chain.ends().pop().expect("an end").burnt, nothing());
    chain.fund(TokenAmount::from_whole(1));
    let before = burnt(&chain);
    chain.skip_to(chain.height() + 61);
    let end = chain.ends().pop().expect("an end");
    assert_eq!((&end.burnt, &end.fault_fee), (&state.fee_debt, &nothing()), "any deadline's end repays debts");
    assert_eq!(burnt(&chain) - before, end.burnt);
    assert_eq!((chain.miner().state.fee_debt, chain.total()), (nothing(), total));
}

#[test]
fn a_sector_that_is_faulty_for_42_periods_is_terminated_and_pays_the_fee() {
    let chain = proving();
    chain.proven(&[7]);
    chain.fund(TokenAmount::from_whole(1));
    let sector = chain.on_chain_sector(7).expect("on chain");
    chain.past_deadline(7);
    let faulty_since = chain.ends().pop().expect("an end").epoch;
    let (total, had) = (chain.total(), chain.miner());
    assert_eq!(had.state.initial_pledge, sector.initial_pledge);
    for period in 1..42 {
        chain.past_deadline(7);
        assert!(chain.ends().pop().expect("an end").terminated.is_empty(), "period {period}");
    }
    let info = chain.past_deadline(7);
    let end = chain.ends().pop().expect("an end");
    assert_eq!((end.epoch, end.epoch - faulty_since), (info.last(), 42 * 2880));
    assert_eq!((end.terminated.as_slice(), end.expired.is_empty()), (&[7][..], true));
    let age = end.epoch - sector.activation;
    let fee = pledge_penalty_for_termination(&sector.initial_pledge, age, &fault_fee(&chain, 7));
    assert_eq!((&end.termination_fee, &end.burnt), (&fee, &(&fee + &end.fault_fee + &end.daily_fee)));
    let after = chain.miner();
    assert_eq!((after.state.initial_pledge, after.state.fee_debt), (nothing(), nothing()));
    let paid: TokenAmount = chain.ends().iter().filter(|end| end.epoch > faulty_since).map(|end| &end.burnt).sum();
    assert_eq!(had.actor.balance - after.actor.balance, paid);
    assert_eq!(chain.total(), total);
    let (deadline, partition) = chain.place(7);
    assert!(chain.partition(deadline, partition).terminated.get(7));
}

#[test]
fn a_sector_expires_on_time_and_frees_its_pledge() {
    let chain = proving();
    // The shortest life that the rules of a pre-commit allow then: a sector may be proven until it expires.
    chain.node(|node| node.policy.min_sector_expiration = 1);
    let mut sector = chain.sector(7);
    sector.expiration = chain.height() + 86_500;
    assert_eq!(chain.pre_commit(vec![sector]).exit_code.value(), 0);
    chain.advance(12);
    assert_eq!(chain.prove(&crate::chain::prove_params(&[(7, b"right")], true)).exit_code.value(), 0);
    let (total, pledge) = (chain.total(), chain.miner().state.initial_pledge);
    assert!(pledge.is_positive());
    let expired = |chain: &Chain| chain.ends().iter().any(|end| !end.expired.is_empty());
    for _ in 0..40 {
        if expired(&chain) {
            break;
        }
        chain.prove_window(7, &[]);
        chain.past_deadline(7);
    }
    let end = chain.ends().pop().expect("an end");
    assert_eq!((end.expired.as_slice(), end.terminated.is_empty()), (&[7][..], true));
    assert_eq!((&end.termination_fee, &end.daily_fee), (&nothing(), &nothing()), "the last deadline is free");
    let miner = chain.miner();
    assert_eq!((miner.state.initial_pledge, miner.state.fee_debt), (nothing(), nothing()));
    assert_eq!(chain.total(), total);
    assert!(!miner.state.deadline_cron_active, "nothing is left to watch");
}

#[test]
fn locked_rewards_vest_while_deadlines_close() {
    let chain = proving();
    chain.proven(&[7]);
    chain.node(|node| node.inject(Fault::Reward { miner: MINER, atto: 4_000_000 }));
    chain.advance(2);
    let locked = chain.miner().state.locked_funds;
    assert_eq!(locked, TokenAmount::from_atto(3_000_000));
    for _ in 0..3 {
        chain.prove_window(7, &[]);
        chain.past_deadline(7);
    }
    assert!(chain.miner().state.locked_funds < locked);
}

#[test]
fn a_pre_commit_that_is_never_proven_loses_its_deposit() {
    let chain = proving();
    assert_eq!(chain.pre_commit(vec![chain.sector(7)]).exit_code.value(), 0);
    let (deposit, before, total) = (chain.deposit(), burnt(&chain), chain.total());
    assert_eq!(chain.miner().state.pre_commit_deposits, deposit);
    chain.skip_to(chain.height() + 86_410 + 960 + 130);
    assert!(chain.on_chain_pre_commit(7).is_none());
    assert_eq!(chain.miner().state.pre_commit_deposits, nothing());
    assert_eq!((burnt(&chain) - before, chain.total()), (deposit.clone(), total));
    assert_eq!(chain.ends().pop().expect("an end").lost_deposits, deposit);
}

#[test]
fn deadlines_close_in_null_rounds_before_the_messages_that_follow() {
    let chain = proving();
    chain.proven(&[7]);
    let info = chain.until_open(7);
    let params = chain.post(7, &[]);
    let message = chain.message(chain.worker(), 5, encode(&params), nothing());
    chain.node(|node| node.add_null_rounds(u64::try_from(info.close - node.epoch() - 1).expect("open")));
    chain.push(message).expect("the mempool takes it");
    chain.advance(u64::try_from(info.close + 2 - chain.height()).expect("ahead"));
    assert!(chain.is_faulty(7));
    assert!(chain.last_error().contains("invalid deadline"), "{}", chain.last_error());
}

#[test]
fn a_proposed_worker_takes_over_at_a_deadlines_end() {
    let chain = proving();
    chain.proven(&[7]);
    let new = chain.node(|node| node.wallet.derive_bls(9, "a new worker").expect("a key"));
    let mut message = chain.message(chain.owner(), 0, Default::default(), TokenAmount::from_whole(1));
    message.to = new;
    chain.push(message).expect("the mempool takes it");
    chain.advance(2);
    let params = ChangeWorkerAddressParams { new_worker: new, new_control_addresses: vec![] };
    assert_eq!(chain.send_from(chain.owner(), 3, encode(&params), nothing()).exit_code.value(), 0);
    let worker = chain.miner().info.worker;
    chain.skip_to(chain.height() + 800);
    assert_eq!(chain.miner().info.worker, worker);
    chain.skip_to(chain.height() + 200);
    let info = chain.miner().info;
    assert!(info.worker != worker && info.pending_worker_key.is_none());
}
