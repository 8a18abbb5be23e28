//! Exit codes of messages, and their consequences for the sender.
//!
//! Exit code 0 of a batch does not mean that its sectors succeeded: see [`super::batch`].

/// The exit code of a message's receipt (ref-fvm `shared/src/error`; 1001 to 1004 from builtin-actors, miner
/// `notifications`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: the message took effect.
    Ok,
    /// 1: the sender does not exist.
    SenderInvalid,
    /// 2: wrong nonce, or the sender could not pay for the gas.
    SenderStateInvalid,
    /// 4: the actor's code trapped (illegal instruction).
    IllegalInstruction,
    /// 5: the receiver does not exist.
    InvalidReceiver,
    /// 6: the sender could not pay the message's value.
    SysInsufficientFunds,
    /// 7: the gas limit was too low.
    OutOfGas,
    /// 16: a parameter is wrong: a proof, a ticket, a commitment, an expiration.
    IllegalArgument,
    /// 17: something that the message names does not exist, for example because a PreCommit has expired.
    NotFound,
    /// 18: not allowed now or for this sender: too early, a consensus fault, a wrong caller.
    Forbidden,
    /// 19: the miner actor lacks the funds for a deposit, a pledge or its debt.
    InsufficientFunds,
    /// 20: the actor's state is corrupt.
    IllegalState,
    /// 21: parameters could not be decoded.
    Serialization,
    /// 22: the actor has no such method, for example after an upgrade.
    UnhandledMessage,
    /// Any other code.
    Other(u32),
}

/// The consequence of an exit code for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// The message took effect.
    Success,
    /// The same call can succeed with more gas.
    OutOfGas,
    /// The same call can succeed when there are more funds.
    Funds,
    /// The call was wrong for the epoch or the state in which it was executed. That may have changed, so ask again
    /// first.
    State,
    /// The call is wrong in any state.
    Refused,
}

impl ExitCode {
    /// The numeric exit code.
    pub fn value(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::SenderInvalid => 1,
            Self::SenderStateInvalid => 2,
            Self::IllegalInstruction => 4,
            Self::InvalidReceiver => 5,
            Self::SysInsufficientFunds => 6,
            Self::OutOfGas => 7,
            Self::IllegalArgument => 16,
            Self::NotFound => 17,
            Self::Forbidden => 18,
            Self::InsufficientFunds => 19,
            Self::IllegalState => 20,
            Self::Serialization => 21,
            Self::UnhandledMessage => 22,
            Self::Other(value) => value,
        }
    }

    /// The consequence for the sender.
    pub fn class(self) -> ExitClass {
        match self {
            Self::Ok => ExitClass::Success,
            Self::OutOfGas => ExitClass::OutOfGas,
            Self::SenderStateInvalid | Self::SysInsufficientFunds | Self::InsufficientFunds => ExitClass::Funds,
            Self::IllegalArgument | Self::NotFound | Self::Forbidden => ExitClass::State,
            _ => ExitClass::Refused,
        }
    }

    /// True for exit code 0.
    pub fn is_ok(self) -> bool {
        self == Self::Ok
    }

    /// A short description for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "success",
            Self::SenderInvalid => "the sender does not exist",
            Self::SenderStateInvalid => "the sender's nonce is wrong or it cannot pay for the gas",
            Self::IllegalInstruction => "the actor's code failed",
            Self::InvalidReceiver => "the receiver does not exist",
            Self::SysInsufficientFunds => "the sender cannot pay the value",
            Self::OutOfGas => "out of gas",
            Self::IllegalArgument => "wrong parameters",
            Self::NotFound => "not found",
            Self::Forbidden => "forbidden now or for this sender",
            Self::InsufficientFunds => "the miner's funds do not suffice",
            Self::IllegalState => "the actor's state is broken",
            Self::Serialization => "the parameters cannot be decoded",
            Self::UnhandledMessage => "the actor has no such method",
            Self::Other(1001..=1004) => "a notified actor rejected",
            Self::Other(_) => "unknown exit code",
        }
    }
}

impl From<u32> for ExitCode {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::Ok,
            1 => Self::SenderInvalid,
            2 => Self::SenderStateInvalid,
            4 => Self::IllegalInstruction,
            5 => Self::InvalidReceiver,
            6 => Self::SysInsufficientFunds,
            7 => Self::OutOfGas,
            16 => Self::IllegalArgument,
            17 => Self::NotFound,
            18 => Self::Forbidden,
            19 => Self::InsufficientFunds,
            20 => Self::IllegalState,
            21 => Self::Serialization,
            22 => Self::UnhandledMessage,
            value => Self::Other(value),
        }
    }
}

impl std::fmt::Display for ExitCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.value(), self.meaning())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_there_and_back() {
        for value in (0..64).chain(1000..1006) {
            assert_eq!(ExitCode::from(value).value(), value);
        }
    }

    #[test]
    fn the_class_says_what_can_help() {
        let of = |class| (0..2000).filter(|v| ExitCode::from(*v).class() == class).collect::<Vec<u32>>();
        assert_eq!(of(ExitClass::Success), [0]);
        assert_eq!(of(ExitClass::OutOfGas), [7]);
        assert_eq!(of(ExitClass::Funds), [2, 6, 19]);
        assert_eq!(of(ExitClass::State), [16, 17, 18]);
    }
}
