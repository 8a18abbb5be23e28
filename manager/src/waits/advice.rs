//! What a person can do about a cause.

use sealbus_schema::{ErrorClass, ErrorCode};

use super::Cause;

/// What a person can do about each cause, in one line.
const ADVICE: &[(ErrorCode, &str)] = &[
    (ErrorCode::NODE_UNAVAILABLE, "nothing, if the node comes back; otherwise start it, or correct chain.url"),
    (ErrorCode::NODE_BEHIND, "check the node's peers and whether it is syncing; tickets and PreCommits age meanwhile"),
    (ErrorCode::NODE_ACCESS_DENIED, "give chain.token_file a token of this node with the permission `sign`"),
    (ErrorCode::NODE_CALL_FAILED, "nothing, if it passes; otherwise read the node's log, or raise chain.timeout_secs"),
    (
        ErrorCode::MESSAGER_UNAVAILABLE,
        "nothing, if the messager comes back; otherwise start it, or correct chain.messager.url",
    ),
    (
        ErrorCode::MESSAGER_REFUSES,
        "give chain.messager.token_file the token of a user with the permission `write`, and bind the sender to this user",
    ),
    (ErrorCode::NETWORK_UNSUPPORTED, "install a version of Sealbus that knows this network version"),
    (ErrorCode::FUNDS_MISSING, "send funds to the sender's address; it goes on by itself"),
    (ErrorCode::FEE_LIMIT_TOO_LOW, "raise chain.max_fee_atto and restart the manager"),
    (
        ErrorCode::BASE_FEE_TOO_HIGH,
        "nothing, if it can wait for a lower base fee; otherwise replace the message with a higher fee",
    ),
    (
        ErrorCode::POST_AT_RISK,
        "see that a worker with the store reads and one proves (`workers list`), that the store answers, and that the sender can pay",
    ),
    (
        ErrorCode::BLOCKS_AT_RISK,
        "see `proving blocks`; that a worker with the store reads and one proves winning PoSts, and that the node's wallet has the worker's key",
    ),
    (ErrorCode::MESSAGE_HELD, "nothing; to send it now: `messages flush`"),
    (ErrorCode::MESSAGE_PENDING, "check whether the node publishes to its peers, and what else waits for this sender"),
    (
        ErrorCode::WALLET_KEY_MISSING,
        "unlock the node's wallet, import the sender's key into it, or set `sender` of the [[miner]]",
    ),
    (ErrorCode::SENDER_NOT_ALLOWED, "make the sender a control address of the miner, or set another `sender`"),
    (
        ErrorCode::STORE_UNREADABLE,
        "give the manager's user the right to read the store (group and UMask= of the worker), and once to write its file",
    ),
    (ErrorCode::STORE_UNAVAILABLE, "mount the store on the manager's machine"),
    (ErrorCode::STORE_CONFLICT, "move the old files away, or abandon the sector"),
    (ErrorCode::PARAMS_MISSING, "put the verifying keys (.vk) into FIL_PROOFS_PARAMETER_CACHE of the manager"),
    (ErrorCode::NUMBERS_USED_UP, "give the [[miner]] more `numbers`"),
    (ErrorCode::CONFIGURATION_WRONG, "correct the named field and restart the manager"),
    (ErrorCode::RECORD_REFUSED, "read the database's log; the named row needs a person"),
    (
        ErrorCode::RESTORED,
        "nothing; if an unknown message does not land, replace it with the node's tools, for a higher fee",
    ),
    (ErrorCode::BUS_FULL, "raise streams.max_sectors_bytes and restart the manager, or purge what fills it"),
    (ErrorCode::BUS_UNAVAILABLE, "nothing, if NATS comes back; otherwise start it, and again after its disk was full"),
];

/// What a person can do.
pub fn advice(code: &ErrorCode) -> &'static str {
    let known = ADVICE.iter().find(|(known, _)| known == code);
    known.map_or("see the code's page in docs/errors", |(_, advice)| advice)
}

/// Whether a person must act, because waiting alone does not help.
pub fn is_mended_by_a_person(cause: &Cause) -> bool {
    cause.class != ErrorClass::Temp
}
