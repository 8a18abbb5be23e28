use super::signed::SignedMessage;
use super::*;
use crate::chain::params::{SectorActivationManifest, SectorPreCommitInfo};
use bls_signatures::Serialize as _;
use fvm_shared::address::Network;
use fvm_shared::crypto::signature::Signature;
use serde_json::json;

const MAX_FEE: u64 = 1_000_000;

fn bls_key(seed: u8) -> (bls_signatures::PrivateKey, Address) {
    let key = bls_signatures::PrivateKey::new([seed; 32]);
    let address = Address::new_bls(&key.public_key().as_bytes()).unwrap();
    (key, address)
}

fn secp_key() -> (k256::ecdsa::SigningKey, Address) {
    let key = k256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let public = key.verifying_key().to_encoded_point(false);
    (key, Address::new_secp256k1(public.as_bytes()).unwrap())
}

fn sign_bls(key: &bls_signatures::PrivateKey, message: &Message) -> Signature {
    Signature::new_bls(key.sign(signing_bytes(message).unwrap()).as_bytes())
}

fn sign_secp(key: &k256::ecdsa::SigningKey, message: &Message) -> Signature {
    let digest = crate::chain::randomness::blake2b256(&signing_bytes(message).unwrap());
    let (signature, recovery) = key.sign_prehash_recoverable(&digest).unwrap();
    let mut bytes = signature.to_bytes().to_vec();
    bytes.push(recovery.to_byte());
    Signature::new_secp256k1(bytes)
}

fn prove(from: Address) -> Message {
    let params = ProveCommitSectors3Params::single(SectorActivationManifest::committed_capacity(7), vec![1; 192]);
    let message = prove_commit(from, Address::new_id(1000), &params, TokenAmount::from_atto(5)).unwrap();
    let gas = Gas { limit: 1000, fee_cap: TokenAmount::from_atto(200), premium: TokenAmount::from_atto(100) };
    with_gas_and_nonce(message, gas, 42)
}

#[test]
fn the_names_of_known_messages_agree_with_lotus() {
    // The example of Lotus's API documentation.
    let example = from_json(json!({
        "Version": 42, "To": "f01234", "From": "f01234", "Nonce": 42, "Value": "0", "GasLimit": 9, "GasFeeCap": "0",
        "GasPremium": "0", "Method": 1, "Params": "Ynl0ZSBhcnJheQ==", "CID": {"/": "not believed"}
    }))
    .unwrap();
    assert_eq!(cid(&example).unwrap().to_string(), "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s");
    // All fields zero, from and to f00.
    let zero = from_json(json!({
        "To": "f00", "From": "f00", "Nonce": 0, "Value": "0", "GasLimit": 0, "GasFeeCap": "0", "GasPremium": "0", "Method": 0, "Params": null
    }))
    .unwrap();
    assert!(cid(&zero).unwrap().to_string().starts_with("bafy2bzaced3xdk2u"));
}

#[test]
fn a_bls_message_is_named_without_its_signature_and_a_secp_one_with_it() {
    let (key, from) = bls_key(1);
    let message = prove(from);
    let signed = SignedMessage::new(message.clone(), sign_bls(&key, &message)).unwrap();
    assert_eq!(signed.cid().unwrap(), cid(&message).unwrap());

    let (key, from) = secp_key();
    let message = prove(from);
    let signed = SignedMessage::new(message.clone(), sign_secp(&key, &message)).unwrap();
    assert_ne!(signed.cid().unwrap(), cid(&message).unwrap());
    assert_eq!(signed.cid().unwrap(), cid_of_bytes(&signed.to_bytes().unwrap()));
}

#[test]
fn stored_bytes_come_back_as_the_same_message() {
    for signed in [
        {
            let (key, from) = bls_key(1);
            let m = prove(from);
            SignedMessage::new(m.clone(), sign_bls(&key, &m)).unwrap()
        },
        {
            let (key, from) = secp_key();
            let m = prove(from);
            SignedMessage::new(m.clone(), sign_secp(&key, &m)).unwrap()
        },
    ] {
        let bytes = signed.to_bytes().unwrap();
        let again = SignedMessage::from_bytes(&bytes).unwrap();
        assert_eq!((again.to_bytes().unwrap(), again.cid().unwrap()), (bytes.clone(), signed.cid().unwrap()));
        for at in (0..bytes.len()).step_by(7) {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(SignedMessage::from_bytes(&broken).is_err(), "byte {at}");
        }
        assert!(SignedMessage::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn only_the_senders_signature_over_this_message_is_taken() {
    let (key, from) = bls_key(1);
    let (other_key, _) = bls_key(2);
    let message = prove(from);
    assert!(matches!(
        SignedMessage::new(message.clone(), sign_bls(&other_key, &message)),
        Err(Error::Signature { .. })
    ));
    let (secp, _) = secp_key();
    assert!(matches!(SignedMessage::new(message.clone(), sign_secp(&secp, &message)), Err(Error::Signature { .. })));

    let answer = SignedMessage::new(message.clone(), sign_bls(&key, &message)).unwrap().to_json(Network::Testnet);
    assert!(SignedMessage::from_wallet(&message, answer.clone()).is_ok());
    let mut asked = message;
    asked.sequence += 1;
    assert!(matches!(SignedMessage::from_wallet(&asked, answer), Err(Error::OtherMessage { .. })));
}

#[test]
fn json_takes_the_networks_prefix_and_comes_back() {
    let (_, from) = bls_key(1);
    let message = prove(from);
    for (network, prefix) in [(Network::Mainnet, "f"), (Network::Testnet, "t")] {
        let value = to_json(&message, network);
        assert!(value["From"].as_str().unwrap().starts_with(&format!("{prefix}3")));
        assert_eq!(value["To"], format!("{prefix}01000"));
        assert_eq!(from_json(value).unwrap(), message);
    }
}

#[test]
fn what_would_be_refused_is_not_signed() {
    let (_, from) = bls_key(1);
    let max_fee = TokenAmount::from_atto(MAX_FEE);
    let good = prove(from);
    assert!(check_before_signing(&good, &max_fee).is_ok());

    let mut premium = good.clone();
    premium.gas_premium = TokenAmount::from_atto(201);
    assert!(matches!(check_before_signing(&premium, &max_fee), Err(Error::Gas(_))));
    assert!(matches!(check_before_signing(&good, &TokenAmount::from_atto(1)), Err(Error::Gas(_))));
    let mut debt = good.clone();
    debt.value = TokenAmount::from_atto(-1);
    assert!(matches!(check_before_signing(&debt, &max_fee), Err(Error::NegativeValue { .. })));
    let mut robot = good;
    robot.from = Address::new_id(1001);
    assert!(matches!(check_before_signing(&robot, &max_fee), Err(Error::NotAKey { .. })));
}

#[test]
fn the_size_limit_is_that_of_the_signed_message() {
    let (key, from) = bls_key(1);
    let max_fee = TokenAmount::from_atto(MAX_FEE);
    let mut message = prove(from);
    message.params = RawBytes::new(vec![0; 60_000]);
    let overhead =
        SignedMessage::new(message.clone(), sign_bls(&key, &message)).unwrap().to_bytes().unwrap().len() - 60_000;
    // A byte string's header has the same size for lengths from 256 to 65,535.
    message.params = RawBytes::new(vec![0; SIGNED_BYTES_MAX - overhead]);
    assert!(check_before_signing(&message, &max_fee).is_ok());
    assert!(SignedMessage::new(message.clone(), sign_bls(&key, &message)).is_ok());
    message.params = RawBytes::new(vec![0; SIGNED_BYTES_MAX - overhead + 1]);
    assert!(matches!(check_before_signing(&message, &max_fee), Err(Error::TooLarge { .. })));
    assert!(matches!(SignedMessage::new(message.clone(), sign_bls(&key, &message)), Err(Error::TooLarge { .. })));
}

#[test]
fn methods_and_values_are_those_of_the_actor() {
    let (_, from) = bls_key(1);
    let sector = SectorPreCommitInfo {
        seal_proof: 5.into(),
        sector_number: 1,
        sealed_cid: crate::chain::commitment::sealed_cid(&[1; 32]).unwrap(),
        seal_rand_epoch: 1,
        deal_ids: vec![],
        expiration: 1,
        unsealed_cid: None,
    };
    let params = PreCommitSectorBatchParams2 { sectors: vec![sector] };
    let message = pre_commit(from, Address::new_id(1000), &params, TokenAmount::from_whole(1)).unwrap();
    assert_eq!((message.method_num, message.to, message.sequence), (28, Address::new_id(1000), 0));
    assert_eq!(prove(from).method_num, 34);
    let filler = nonce_filler(from).unwrap();
    assert_eq!((filler.method_num, filler.to, filler.value.is_zero(), filler.params.len()), (0, from, true, 0));
}

#[test]
fn a_pledge_below_the_deposit_needs_no_value() {
    let fil = |n: i64| TokenAmount::from_whole(n);
    assert_eq!(prove_commit_value(&[(fil(5), fil(2))]), fil(3));
    assert_eq!(prove_commit_value(&[(fil(5), fil(2)), (fil(1), fil(3))]), fil(1));
    assert_eq!(prove_commit_value(&[(fil(1), fil(2))]), fil(0));
    assert_eq!(prove_commit_value(&[]), fil(0));
}

#[test]
fn one_fil_has_the_golden_bytes() {
    assert_eq!(hex::encode(encode(&TokenAmount::from_whole(1)).unwrap()), "49000de0b6b3a7640000");
    assert_eq!(hex::encode(encode(&TokenAmount::default()).unwrap()), "40");
}

#[test]
fn every_message_survives_json_and_cbor() {
    for shift in 0..64 {
        let number = u64::MAX >> shift;
        let message = Message {
            version: 0,
            from: bls_key(1).1,
            to: Address::new_id(number),
            sequence: number,
            value: TokenAmount::from_atto(u128::from(number) << shift),
            method_num: number,
            params: RawBytes::new(vec![shift as u8; shift * 5]),
            gas_limit: number,
            gas_fee_cap: TokenAmount::from_atto(number),
            gas_premium: TokenAmount::from_atto(number / 2),
        };
        assert_eq!(from_json(to_json(&message, Network::Testnet)).unwrap(), message);
        let bytes = encode(&message).unwrap();
        assert_eq!(fvm_ipld_encoding::from_slice::<Message>(&bytes).unwrap(), message);
    }
}
