//! A miner's peer id and multiaddresses: where clients reach it.
//!
//! The chain has both in binary. Only the protocols that a miner's address is made of are known here; see
//! `docs/adr/0058-errands.md` for why no library is used.

use cid::{multibase::Base, multihash::Multihash};
use fvm_ipld_encoding::BytesDe;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::json;

use super::{Draft, Refusal, Role, encoded};
use crate::{
    chain::params::{
        ChangeMultiaddrsParams, ChangePeerIdParams, METHOD_CHANGE_MULTIADDRS, METHOD_CHANGE_PEER_ID,
        MULTIADDRS_BYTES_MAX, PEER_ID_BYTES_MAX,
    },
    chain::types::MinerInfo,
    drive::address,
};

/// The protocols of a multiaddress: name, code (the `multiaddr` table of multicodec), and what its value is.
const PROTOCOLS: [(&str, u64, Kind); 15] = [
    ("ip4", 4, Kind::Ip4),
    ("tcp", 6, Kind::Port),
    ("ip6", 41, Kind::Ip6),
    ("dns", 53, Kind::Name),
    ("dns4", 54, Kind::Name),
    ("dns6", 55, Kind::Name),
    ("dnsaddr", 56, Kind::Name),
    ("udp", 273, Kind::Port),
    ("p2p", 421, Kind::Peer),
    ("https", 443, Kind::Nothing),
    ("tls", 448, Kind::Nothing),
    ("quic-v1", 461, Kind::Nothing),
    ("ws", 477, Kind::Nothing),
    ("wss", 478, Kind::Nothing),
    ("http", 480, Kind::Nothing),
];

/// The value of a protocol.
#[derive(Clone, Copy)]
enum Kind {
    Nothing,
    Ip4,
    Ip6,
    /// Two bytes.
    Port,
    /// Text after its length.
    Name,
    /// A peer id after its length.
    Peer,
}

/// A peer id in binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerId(Vec<u8>);

/// A multiaddress in binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiaddr(Vec<u8>);

impl std::str::FromStr for PeerId {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerId, String> {
        let wrong = || format!("`{text}` is not a peer id, such as 12D3KooW…");
        let bytes = Base::Base58Btc.decode(text).map_err(|_| wrong())?;
        Multihash::<64>::from_bytes(&bytes).map_err(|_| wrong())?;
        if bytes.len() > PEER_ID_BYTES_MAX { Err(wrong()) } else { Ok(PeerId(bytes)) }
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Base::Base58Btc.encode(&self.0))
    }
}

impl std::str::FromStr for Multiaddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Multiaddr, String> {
        let wrong = |what: String| format!("`{text}` is not a multiaddress, such as /ip4/1.2.3.4/tcp/24001: {what}");
        let mut parts = text.strip_prefix('/').ok_or_else(|| wrong("it begins with /".to_owned()))?.split('/');
        let mut bytes = Vec::new();
        while let Some(name) = parts.next() {
            let known = PROTOCOLS.iter().find(|(known, ..)| *known == name);
            let (_, code, kind) =
                known.ok_or_else(|| wrong(format!("`{name}` is not a protocol that is known here")))?;
            push_number(&mut bytes, *code);
            if matches!(kind, Kind::Nothing) {
                continue;
            }
            let value = parts.next().unwrap_or_default();
            let of_value = || wrong(format!("`{value}` is not a value of {name}"));
            match kind {
                Kind::Ip4 => bytes.extend(value.parse::<std::net::Ipv4Addr>().map_err(|_| of_value())?.octets()),
                Kind::Ip6 => bytes.extend(value.parse::<std::net::Ipv6Addr>().map_err(|_| of_value())?.octets()),
                Kind::Port => bytes.extend(value.parse::<u16>().map_err(|_| of_value())?.to_be_bytes()),
                Kind::Name if value.is_empty() => return Err(of_value()),
                Kind::Name => push_with_length(&mut bytes, value.as_bytes()),
                Kind::Peer => push_with_length(&mut bytes, &value.parse::<PeerId>().map_err(|_| of_value())?.0),
                Kind::Nothing => {}
            }
        }
        Ok(Multiaddr(bytes))
    }
}

impl Multiaddr {
    /// The text of a binary multiaddress. `None` if it has a protocol that is not known here.
    pub fn text(mut bytes: &[u8]) -> Option<String> {
        let mut text = String::new();
        while !bytes.is_empty() {
            let code = take_number(&mut bytes)?;
            let (name, _, kind) = PROTOCOLS.iter().find(|(_, known, _)| *known == code)?;
            text.push('/');
            text.push_str(name);
            let value = match kind {
                Kind::Nothing => continue,
                Kind::Ip4 => std::net::Ipv4Addr::from(take::<4>(&mut bytes)?).to_string(),
                Kind::Ip6 => std::net::Ipv6Addr::from(take::<16>(&mut bytes)?).to_string(),
                Kind::Port => u16::from_be_bytes(take::<2>(&mut bytes)?).to_string(),
                Kind::Name => String::from_utf8(take_with_length(&mut bytes)?.to_vec()).ok()?,
                Kind::Peer => PeerId(take_with_length(&mut bytes)?.to_vec()).to_string(),
            };
            text.push('/');
            text.push_str(&value);
        }
        Some(text)
    }
}

/// Sets the peer id.
pub fn set_peer_id(miner: MinerId, sender: Address, info: &MinerInfo, peer: &PeerId) -> Result<Draft, Refusal> {
    let text = peer.to_string();
    if info.peer_id.as_ref() == Some(&text) {
        return Err(Refusal::NoChange { field: "peer id", value: text });
    }
    Ok(Draft {
        miner: Some(miner),
        kind: "set_peer_id",
        role: Role::Sender,
        sender,
        receiver: address(miner),
        method: METHOD_CHANGE_PEER_ID,
        params: encoded(&ChangePeerIdParams { new_id: peer.0.clone() })?,
        value: TokenAmount::default(),
        what: format!("set the peer id of {miner} to {text}"),
        follows: "clients see it once the message lands".to_owned(),
        detail: json!({ "peer_id": text, "was": info.peer_id }),
    })
}

/// Sets all multiaddresses.
pub fn set_multiaddrs(
    miner: MinerId,
    sender: Address,
    info: &MinerInfo,
    addresses: &[(String, Multiaddr)],
) -> Result<Draft, Refusal> {
    const FIELD: &str = "multiaddresses";
    let binary: Vec<Vec<u8>> = addresses.iter().map(|(_, address)| address.0.clone()).collect();
    let texts: Vec<&str> = addresses.iter().map(|(text, _)| text.as_str()).collect();
    let listed = if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
    let count = binary.iter().map(Vec::len).sum();
    if count > MULTIADDRS_BYTES_MAX {
        return Err(Refusal::TooMany { field: "bytes of multiaddresses", count, most: MULTIADDRS_BYTES_MAX });
    }
    if binary == info.multiaddrs {
        return Err(Refusal::NoChange { field: FIELD, value: listed });
    }
    Ok(Draft {
        miner: Some(miner),
        kind: "set_multiaddrs",
        role: Role::Sender,
        sender,
        receiver: address(miner),
        method: METHOD_CHANGE_MULTIADDRS,
        params: encoded(&ChangeMultiaddrsParams { new_multi_addrs: binary.into_iter().map(BytesDe).collect() })?,
        value: TokenAmount::default(),
        what: format!("set the multiaddresses of {miner} to {listed}"),
        follows: "clients see them once the message lands".to_owned(),
        detail: json!({ "multiaddrs": texts }),
    })
}

impl PeerId {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Multiaddr {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An unsigned variable-length number.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn push_with_length(bytes: &mut Vec<u8>, value: &[u8]) {
    push_number(bytes, value.len() as u64);
    bytes.extend(value);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (value, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*value)
}

fn take_with_length<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MINER, id, info},
        *,
    };

    const PEER: &str = "12D3KooWQ4sjXAfYNKKuAwrNRpTMHjjJyGnbWvvzvyFwUCXdQUJ3";

    #[test]
    fn a_peer_id_survives_the_way_there_and_back() {
        let peer: PeerId = PEER.parse().expect("a peer id");
        assert_eq!((peer.to_string(), peer.bytes().len()), (PEER.to_owned(), 38));
        for wrong in ["", "12D3", "0OIl", "f01000", &PEER[1..]] {
            assert!(wrong.parse::<PeerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn multiaddresses_have_the_bytes_of_the_specification() {
        for (text, bytes) in [
            ("/ip4/127.0.0.1/tcp/1234", "047f0000010604d2"),
            ("/ip6/2001:db8::1/udp/443/quic-v1", "2920010db8000000000000000000000001910201bbcd03"),
            ("/dns4/example.com/tcp/443/wss", "360b6578616d706c652e636f6d0601bbde03"),
        ] {
            let address: Multiaddr = text.parse().expect("a multiaddress");
            assert_eq!(hex::encode(address.bytes()), bytes, "{text}");
            assert_eq!(Multiaddr::text(address.bytes()).as_deref(), Some(text));
        }
        let with_peer = format!("/dns/a/tcp/1/p2p/{PEER}");
        let address: Multiaddr = with_peer.parse().expect("a multiaddress");
        assert_eq!(Multiaddr::text(address.bytes()), Some(with_peer));
        assert_eq!(Multiaddr::text(&[0xff, 0xff, 1]), None);
        assert_eq!(Multiaddr::text(&[4, 1, 2]), None);
    }

    #[test]
    fn what_is_wrong_with_a_multiaddress_is_named() {
        for (text, word) in [
            ("127.0.0.1:1234", "begins with /"),
            ("/ip4/1.2.3/tcp/1", "`1.2.3` is not a value of ip4"),
            ("/ip4/1.2.3.4/tcp/70000", "70000"),
            ("/ip4/1.2.3.4/tcp", "`` is not a value of tcp"),
            ("/onion3/x", "`onion3` is not a protocol"),
            ("/dns4//tcp/1", "dns4"),
        ] {
            let refused = text.parse::<Multiaddr>().expect_err("refused");
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn what_is_set_already_or_too_long_is_refused() {
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/1".parse().expect("a multiaddress");
        let named = |address: &Multiaddr| ("an address".to_owned(), address.clone());
        let mut info = info();
        let draft = set_multiaddrs(MINER, id(101), &info, &[named(&address)]).expect("a draft");
        assert_eq!((draft.method, draft.sender), (18, id(101)));
        info.multiaddrs = vec![address.0.clone()];
        info.peer_id = Some(PEER.to_owned());
        let same = set_multiaddrs(MINER, id(101), &info, &[named(&address)]);
        assert!(matches!(same, Err(Refusal::NoChange { .. })));
        let many = vec![named(&address); 200];
        assert!(matches!(set_multiaddrs(MINER, id(101), &info, &many), Err(Refusal::TooMany { .. })));
        let peer: PeerId = PEER.parse().expect("a peer id");
        assert!(matches!(set_peer_id(MINER, id(101), &info, &peer), Err(Refusal::NoChange { .. })));
    }
}
