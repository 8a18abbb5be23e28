//! Faults that tests can inject. Each is a variant.

use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use serde::{Deserialize, Serialize};

use super::execution::BASE_FEE_MIN_ATTO;

/// Whether a call fails before or after its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before the effect: nothing has happened.
    Before,
    /// After the effect: it has happened, but the caller does not learn that.
    After,
}

/// How a failed call is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A JSON-RPC error, code 1.
    #[default]
    RpcError,
    /// HTTP status 503 without a body.
    Http503,
}

/// What a reorganisation does with the messages of the tipsets that it reverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reverted {
    /// The first new tipset includes them, often earlier than before.
    Again,
    /// They wait in the mempool, and the new tipsets up to the present epoch are empty.
    Later,
    /// The node forgets them, as if it had never been sent them.
    Lost,
}

/// A command of `Devnet.Fault`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The next `count` calls of a method fail.
    FailCalls {
        /// The full name, such as `Filecoin.MpoolPush`.
        method: String,
        /// Before or after the effect.
        when: When,
        /// The number of calls.
        count: u64,
        /// How the call is answered.
        #[serde(default)]
        answer: Answer,
    },
    /// While this is on, calls of a method wait. Other calls do not.
    HoldCalls {
        /// The full name.
        method: String,
        /// Before or after the effect.
        when: When,
        /// Whether to switch it on.
        on: bool,
    },
    /// While this is on, the node is away: every call of a node's methods is answered with HTTP status 503, and
    /// subscribers are told nothing. Its chain grows.
    Away {
        /// Whether to switch it on.
        on: bool,
    },
    /// While this is on, blocks contain no messages. The mempool keeps them.
    StallInclusion {
        /// Whether to switch it on.
        on: bool,
    },
    /// The next `count` pushed messages are reported as accepted and then dropped.
    DropPushed {
        /// The number of messages.
        count: u64,
    },
    /// The next `count` gas estimates are a tenth of what is needed.
    LowGas {
        /// The number of estimates.
        count: u64,
    },
    /// New blocks have this base fee. It begins as 100, the network's lowest.
    BaseFee {
        /// In attoFIL per unit of gas.
        atto: u64,
    },
    /// For so many epochs the base fee is this many times what it is now. If it follows the demand, it rises and falls by
    /// an eighth an epoch, as when others ask for all gas.
    BaseFeeSpike {
        /// How many times.
        times: u64,
        /// For how many epochs.
        epochs: u32,
    },
    /// Gas estimates have this premium, as if others paid so much.
    Premium {
        /// In attoFIL per unit of gas.
        atto: u64,
    },
    /// The mempool is emptied once, as by a restart.
    ClearMempool {},
    /// While this is on, subscribers of `ChainNotify` are told nothing.
    MuteChannels {
        /// Whether to switch it on.
        on: bool,
    },
    /// Every channel of `ChainNotify` is closed once, as for a subscriber that is too slow.
    CloseChannels {},
    /// At the end of the next tipset these sectors of a miner become faulty, as after a window PoSt without them.
    Faulty {
        /// The miner's ID.
        miner: ActorID,
        /// The sectors.
        sectors: Vec<u64>,
    },
    /// At the end of the next tipset a miner owes this much more, as after a fee that it could not pay.
    FeeDebt {
        /// The miner's ID.
        miner: ActorID,
        /// In attoFIL.
        atto: u64,
    },
    /// At the end of the next tipset a miner gets this block reward, three quarters of which are locked and vest.
    Reward {
        /// The miner's ID.
        miner: ActorID,
        /// In attoFIL.
        atto: u64,
    },
    /// At the end of the next tipset a miner is punished as for a consensus fault: it pays five rewards, and for 900
    /// epochs it makes no blocks and declares no recoveries.
    ConsensusFault {
        /// The miner's ID.
        miner: ActorID,
    },
    /// All faults are switched off.
    Clear {},
}

/// A time of a higher base fee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spike {
    /// When it is.
    pub epochs: std::ops::Range<ChainEpoch>,
    /// Its height in attoFIL per unit of gas.
    pub atto: u64,
}

/// What happens to a miner without a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// These sectors become faulty.
    Faulty(Vec<u64>),
    /// The miner owes this much more.
    Debt(TokenAmount),
    /// The miner gets this block reward.
    Reward(TokenAmount),
    /// The miner is punished for two blocks of one epoch.
    ConsensusFault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FailCalls {
    method: String,
    when: When,
    left: u64,
    answer: Answer,
}

/// The faults that are switched on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    fail_calls: Vec<FailCalls>,
    held_calls: Vec<(String, When)>,
    away: bool,
    stall_inclusion: bool,
    drop_pushed: u64,
    low_gas: u64,
    base_fee_atto: Option<u64>,
    premium_atto: Option<u64>,
    incidents: Vec<(ActorID, Incident)>,
    spike: Option<Spike>,
}

impl Faults {
    /// Switches a fault on or off. What concerns the mempool and the channels is handled by the node.
    pub fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::FailCalls { method, when, count, answer } => {
                self.fail_calls.push(FailCalls { method, when, left: count, answer });
            }
            Fault::HoldCalls { method, when, on } => {
                let call = (method, when);
                self.held_calls.retain(|held| *held != call);
                self.held_calls.extend(on.then_some(call));
            }
            Fault::Away { on } => self.away = on,
            Fault::StallInclusion { on } => self.stall_inclusion = on,
            Fault::DropPushed { count } => self.drop_pushed = count,
            Fault::LowGas { count } => self.low_gas = count,
            Fault::BaseFee { atto } => self.base_fee_atto = Some(atto.max(BASE_FEE_MIN_ATTO)),
            Fault::Premium { atto } => self.premium_atto = Some(atto),
            Fault::Faulty { miner, sectors } => self.incidents.push((miner, Incident::Faulty(sectors))),
            Fault::FeeDebt { miner, atto } => {
                self.incidents.push((miner, Incident::Debt(TokenAmount::from_atto(atto))))
            }
            Fault::Reward { miner, atto } => {
                self.incidents.push((miner, Incident::Reward(TokenAmount::from_atto(atto))))
            }
            Fault::ConsensusFault { miner } => self.incidents.push((miner, Incident::ConsensusFault)),
            Fault::BaseFeeSpike { .. }
            | Fault::ClearMempool {}
            | Fault::MuteChannels { .. }
            | Fault::CloseChannels {} => {}
            Fault::Clear {} => *self = Self::default(),
        }
    }

    /// Whether this call fails. If so, it is counted.
    pub fn take_failure(&mut self, method: &str, when: When) -> Option<Answer> {
        let matching = |fault: &&mut FailCalls| fault.method == method && fault.when == when && fault.left > 0;
        let fault = self.fail_calls.iter_mut().find(matching)?;
        fault.left -= 1;
        let answer = fault.answer;
        self.fail_calls.retain(|fault| fault.left > 0);
        Some(answer)
    }

    /// Whether this call waits.
    pub fn is_held(&self, method: &str, when: When) -> bool {
        self.held_calls.iter().any(|(held, at)| held == method && *at == when)
    }

    /// The base fee of new blocks, if a test has set it.
    pub fn base_fee_atto(&self) -> Option<u64> {
        self.base_fee_atto
    }

    /// Begins a spike of the base fee.
    pub fn begin_spike(&mut self, spike: Spike) {
        self.spike = Some(spike);
    }

    /// The height of the spike at an epoch, if there is one.
    pub fn spike_atto(&self, epoch: ChainEpoch) -> Option<u64> {
        self.spike.as_ref().filter(|spike| spike.epochs.contains(&epoch)).map(|spike| spike.atto)
    }

    /// The premium of gas estimates, if a test has set it.
    pub fn premium_atto(&self) -> Option<u64> {
        self.premium_atto
    }

    /// Adds something that happens to a miner at the end of the next tipset.
    pub fn add_incident(&mut self, miner: ActorID, incident: Incident) {
        self.incidents.push((miner, incident));
    }

    /// What happens to miners at the end of this tipset.
    pub fn take_incidents(&mut self) -> Vec<(ActorID, Incident)> {
        std::mem::take(&mut self.incidents)
    }

    /// Whether the node answers no calls at present.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Whether blocks contain no messages at present.
    pub fn inclusion_stalled(&self) -> bool {
        self.stall_inclusion
    }

    /// Whether this estimate is too low. If so, it is counted.
    pub fn take_low_gas(&mut self) -> bool {
        let low = self.low_gas > 0;
        self.low_gas = self.low_gas.saturating_sub(1);
        low
    }

    /// Whether this pushed message is dropped. If so, it is counted.
    pub fn take_drop(&mut self) -> bool {
        let dropped = self.drop_pushed > 0;
        self.drop_pushed = self.drop_pushed.saturating_sub(1);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_fail_as_often_as_asked_and_at_the_asked_moment() {
        let mut faults = Faults::default();
        let json = r#"{"kind":"fail_calls","method":"Filecoin.MpoolPush","when":"after","count":2}"#;
        faults.apply(serde_json::from_str(json).expect("reads"));
        assert_eq!(faults.take_failure("Filecoin.MpoolPush", When::Before), None);
        assert_eq!(faults.take_failure("Filecoin.ChainHead", When::After), None);
        for _ in 0..2 {
            let answer = faults.take_failure("Filecoin.MpoolPush", When::After);
            assert_eq!(answer, Some(Answer::RpcError));
        }
        assert_eq!(faults.take_failure("Filecoin.MpoolPush", When::After), None);
    }

    #[test]
    fn calls_wait_until_they_are_let_go() {
        let mut faults = Faults::default();
        let hold = |on| Fault::HoldCalls { method: "Filecoin.MpoolPush".to_owned(), when: When::After, on };
        for _ in 0..2 {
            faults.apply(hold(true));
        }
        assert!(
            faults.is_held("Filecoin.MpoolPush", When::After) && !faults.is_held("Filecoin.MpoolPush", When::Before)
        );
        faults.apply(hold(false));
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn an_unknown_fault_or_field_is_refused() {
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"meteor"}"#).is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"stall_inclusion","on":true,"x":1}"#).is_err());
    }
}
