//! Turns an error of the driver into the cause of a wait.
//!
//! The class follows from where the error arose: `temp` if it recovers by itself, `crit` if a person must fix
//! something. Both are retried.

use std::time::Duration;

use sealbus_schema::ErrorCode;

use super::Cause;
use crate::{
    chain::{
        Error as ChainError, WaitReason, expiry::Error as ExpiryError, fees::Error as FeesError,
        message::Error as MessageError, messager::Error as MessagerError, node::SignError, nodes::Standing,
    },
    drive::{DriveError, chain_of},
};

/// The cause of the wait for whatever the error stopped.
pub fn of_error(error: &DriveError) -> Cause {
    let text = chain_of(error);
    match error {
        DriveError::Chain(error) | DriveError::Sign(SignError::Node(error)) => of_chain_error(error, text),
        DriveError::Store(_) => Cause::to_mend(ErrorCode::RECORD_REFUSED, text),
        DriveError::Network(_) | DriveError::Rules(ExpiryError::Delay { .. }) => {
            Cause::to_mend(ErrorCode::NETWORK_UNSUPPORTED, text)
        }
        DriveError::Rules(ExpiryError::TooEarly { .. } | ExpiryError::TooLate { .. }) => {
            Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, format!("lifetime_days of its [[miner]]: {text}"))
        }
        DriveError::Rules(_) => Cause::passing(ErrorCode::NODE_BEHIND, text),
        DriveError::Message(MessageError::Gas(FeesError::MaxFeeTooLow { .. } | FeesError::AboveMaxFee { .. })) => {
            Cause::to_mend(ErrorCode::FEE_LIMIT_TOO_LOW, format!("chain.max_fee_atto: {text}"))
        }
        DriveError::Message(MessageError::NotAKey { .. }) => Cause::to_mend(ErrorCode::SENDER_NOT_ALLOWED, text),
        DriveError::Sender(_) => Cause::to_mend(ErrorCode::SENDER_NOT_ALLOWED, text),
        DriveError::Config { .. } => Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, text),
        DriveError::Waits(reason) => of_wait_reason(reason, text),
        DriveError::Messager(error) => of_messager_error(error),
        DriveError::Message(_) | DriveError::Sign(_) | DriveError::Commitment(_) => {
            Cause::passing(ErrorCode::NODE_CALL_FAILED, text)
        }
    }
}

/// The cause of the wait for everything that needs the node, when not even its head could be read.
pub fn of_node_error(error: &DriveError) -> Cause {
    let cause = of_error(error);
    match cause.code == ErrorCode::NODE_CALL_FAILED {
        true => Cause::passing(ErrorCode::NODE_UNAVAILABLE, cause.text),
        false => cause,
    }
}

/// The node's error, if it may mean that the node does not answer at all, so that nothing else can continue either.
pub const fn is_node_away(error: &DriveError) -> Option<&ChainError> {
    match error {
        DriveError::Chain(error)
        | DriveError::Sign(SignError::Node(error))
        | DriveError::Messager(MessagerError::Away { source: error }) => match error {
            ChainError::Unreachable { .. }
            | ChainError::ConnectionLost { .. }
            | ChainError::TimedOut { .. }
            | ChainError::NoNodeWell { .. }
            | ChainError::Http { .. } => Some(error),
            _ => None,
        },
        _ => None,
    }
}

/// How long a call was waited for without success.
pub const fn takes_time(error: &ChainError) -> Duration {
    match error {
        ChainError::TimedOut { limit, .. } => *limit,
        _ => Duration::ZERO,
    }
}

/// Why one of several nodes is left out. `None` if it is not.
pub fn of_standing(standing: &Standing) -> Option<Cause> {
    let text = format!("it {standing}, and is left out");
    Some(match standing {
        Standing::Unknown | Standing::Well { .. } => return None,
        Standing::Unusable(error) => match of_chain_error(error, text) {
            cause if cause.code == ErrorCode::NODE_CALL_FAILED => {
                Cause::passing(ErrorCode::NODE_UNAVAILABLE, cause.text)
            }
            cause => cause,
        },
        Standing::OtherNetwork { .. } => Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, format!("chain.node: {text}")),
        Standing::Behind { .. } | Standing::Forked { .. } => Cause::passing(ErrorCode::NODE_BEHIND, text),
    })
}

fn of_chain_error(error: &ChainError, text: String) -> Cause {
    match error {
        ChainError::Unreachable { .. } | ChainError::ConnectionLost { .. } => {
            Cause::passing(ErrorCode::NODE_UNAVAILABLE, text)
        }
        ChainError::NoNodeWell { is_other_network: true, .. } => {
            Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, format!("chain.url: {text}"))
        }
        ChainError::NoNodeWell { .. } => Cause::passing(ErrorCode::NODE_UNAVAILABLE, text),
        ChainError::Http { .. } if error.is_transient() => Cause::passing(ErrorCode::NODE_UNAVAILABLE, text),
        error if error.needs_person() => Cause::to_mend(ErrorCode::NODE_ACCESS_DENIED, text),
        ChainError::Refused { .. } if error.is_not_enough_funds() => Cause::to_mend(ErrorCode::FUNDS_MISSING, text),
        ChainError::Refused { message, .. } if message.to_ascii_lowercase().contains("fee cap too low") => {
            Cause::to_mend(ErrorCode::FEE_LIMIT_TOO_LOW, format!("chain.max_fee_atto: {text}"))
        }
        ChainError::Refused { method: "WalletSignMessage" | "WalletHas", .. } => {
            Cause::to_mend(ErrorCode::WALLET_KEY_MISSING, text)
        }
        _ => Cause::passing(ErrorCode::NODE_CALL_FAILED, text),
    }
}

/// The cause of the wait for what the messager must do.
pub fn of_messager_error(error: &MessagerError) -> Cause {
    match error.needs_person() {
        true => Cause::to_mend(ErrorCode::MESSAGER_REFUSES, error.to_string()),
        false => Cause::passing(ErrorCode::MESSAGER_UNAVAILABLE, error.to_string()),
    }
}

/// The cause for a message that waits for a known reason.
fn of_wait_reason(reason: &WaitReason, text: String) -> Cause {
    match reason {
        WaitReason::Fee { source: FeesError::BaseFeeAboveCap { .. }, .. }
        | WaitReason::BaseFeeAboveCap { .. }
        | WaitReason::BaseFeeHigh { .. } => Cause::passing(ErrorCode::BASE_FEE_TOO_HIGH, text),
        WaitReason::Batch { .. } | WaitReason::Aggregation { .. } => Cause::passing(ErrorCode::MESSAGE_HELD, text),
        WaitReason::Fee { .. } => Cause::to_mend(ErrorCode::FEE_LIMIT_TOO_LOW, text),
        WaitReason::NotEnoughFunds { .. } | WaitReason::SenderNotOnChain { .. } => {
            Cause::to_mend(ErrorCode::FUNDS_MISSING, text)
        }
        WaitReason::WalletWithoutKey { .. } => Cause::to_mend(ErrorCode::WALLET_KEY_MISSING, text),
        WaitReason::NonceTaken { .. }
        | WaitReason::NonceGap { .. }
        | WaitReason::EarlierMessage { .. }
        | WaitReason::PreCommitMoved { .. }
        | WaitReason::PoolRefuses { .. } => Cause::passing(ErrorCode::MESSAGE_PENDING, text),
        WaitReason::WithMessager { .. } => Cause::passing(ErrorCode::MESSAGE_PENDING, text),
        WaitReason::MessagerNeeds { .. } => Cause::to_mend(ErrorCode::MESSAGER_REFUSES, text),
        WaitReason::RefusedForNow { .. } => Cause::passing(ErrorCode::NODE_CALL_FAILED, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waits::is_mended_by_a_person;

    #[test]
    fn each_cause_has_its_own_code_and_says_whether_a_person_must_act() {
        let refused = |method, text| DriveError::Chain(ChainError::refused(method, 1, text));
        let url = "http://node".to_owned();
        let lost = ChainError::TimedOut { url: url.clone(), method: "ChainHead", limit: Duration::from_secs(30) };
        let away = ChainError::Http { url, method: "ChainHead", status: 503 };
        for (error, code, person) in [
            (refused("MpoolPush", "mpool push: not enough funds: 1 < 2"), ErrorCode::FUNDS_MISSING, true),
            (refused("GasEstimateMessageGas", "call failed (RetCode=6)"), ErrorCode::FUNDS_MISSING, true),
            (refused("GasEstimateMessageGas", "call failed (RetCode=19)"), ErrorCode::FUNDS_MISSING, true),
            (refused("MpoolPush", "gas fee cap too low"), ErrorCode::FEE_LIMIT_TOO_LOW, true),
            (refused("GasEstimateMessageGas", "no such tipset"), ErrorCode::NODE_CALL_FAILED, false),
            (refused("WalletSignMessage", "key not found"), ErrorCode::WALLET_KEY_MISSING, true),
            (DriveError::Chain(lost), ErrorCode::NODE_CALL_FAILED, false),
            (DriveError::Chain(away), ErrorCode::NODE_UNAVAILABLE, false),
            (
                DriveError::Network(crate::chain::network::Unsupported { version: 99 }),
                ErrorCode::NETWORK_UNSUPPORTED,
                true,
            ),
        ] {
            let cause = of_error(&error);
            assert_eq!((&cause.code, is_mended_by_a_person(&cause)), (&code, person), "{error:?}");
            assert!(cause.text.contains(&error.to_string()), "the whole text is kept: {}", cause.text);
        }
    }
}
