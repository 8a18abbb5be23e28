//! The peculiarities of the node's JSON, as serde helpers for `#[serde(with = "…")]`.
//!
//! Go writes an empty slice as `null`, bytes as base64 or `null`, amounts as decimal strings, a CID as `{"/": "…"}`,
//! and an unset address as `"<empty>"`. Addresses start with `f` on the main network and `t` elsewhere. We read both
//! everywhere, and send the network's own, because not every node accepts both.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cid::Cid;
use fvm_shared::address::{Address, Network};
use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

/// The most digits of an amount: far above the total supply in attoFIL, and short enough to parse quickly.
const AMOUNT_DIGITS_MAX: usize = 64;

/// Go's `address.Undef` as text.
const ADDRESS_UNDEFINED: &str = "<empty>";

/// Bytes in base64, as the node expects them.
pub fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A CID as the node expects it.
pub fn cid_value(cid: &Cid) -> Value {
    json!({ "/": cid.to_string() })
}

/// An amount in attoFIL as the node expects it.
pub fn tokens_text(amount: &TokenAmount) -> String {
    amount.atto().to_string()
}

/// An address with the prefix of `network`, whatever the address library's process-wide default is.
pub fn address_text(address: &Address, network: Network) -> String {
    let text = address.to_string();
    let prefix = match network {
        Network::Mainnet => 'f',
        Network::Testnet => 't',
    };
    // The library's text is ASCII and starts with a prefix of one letter.
    format!("{prefix}{}", text.get(1..).unwrap_or_default())
}

/// Parses an address with either prefix, and returns the prefix's network.
pub fn parse_address(text: &str) -> Result<(Address, Network), fvm_shared::address::Error> {
    let network = if text.starts_with('t') { Network::Testnet } else { Network::Mainnet };
    Ok((network.parse_address(text)?, network))
}

/// Parses an amount in attoFIL: an optional sign and decimal digits.
pub fn parse_tokens(text: &str) -> Result<TokenAmount, String> {
    if text.len() > AMOUNT_DIGITS_MAX {
        return Err(format!("an amount of {} digits", text.len()));
    }
    // In places Go writes a nil amount as an empty string.
    if text.is_empty() {
        return Ok(TokenAmount::default());
    }
    BigInt::from_str(text).map(TokenAmount::from_atto).map_err(|_| format!("`{text}` is not an amount in attoFIL"))
}

/// `null` for the default value, as Go writes slices.
pub mod nullable {
    use super::*;

    /// Reads `null` as the default.
    pub fn deserialize<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
    }
}

/// `{"/": "…"}` as a [`Cid`].
pub mod cid_link {
    use super::*;

    /// Reads a link.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Cid, D::Error> {
        CidLink::deserialize(d).map(|link| link.0)
    }

    /// Writes a link.
    pub fn serialize<S: Serializer>(cid: &Cid, s: S) -> Result<S::Ok, S::Error> {
        cid_value(cid).serialize(s)
    }
}

/// `{"/": "…"}` or `null` as an optional [`Cid`].
pub mod cid_link_opt {
    use super::*;

    /// Reads a link.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Cid>, D::Error> {
        Ok(Option::<CidLink>::deserialize(d)?.map(|link| link.0))
    }
}

/// Base64 or `null` as bytes.
pub mod bytes {
    use super::*;

    /// Reads bytes; `null` is empty.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        match Option::<String>::deserialize(d)? {
            None => Ok(Vec::new()),
            Some(text) => STANDARD.decode(text.as_bytes()).map_err(de::Error::custom),
        }
    }
}

/// Decimal string as [`TokenAmount`] in attoFIL.
pub mod tokens {
    use super::*;

    /// Reads an amount.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<TokenAmount, D::Error> {
        parse_tokens(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// Decimal string or `null` as [`TokenAmount`] in attoFIL.
pub mod tokens_or_null {
    use super::*;

    /// Reads an amount; `null` is 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<TokenAmount, D::Error> {
        parse_tokens(&Option::<String>::deserialize(d)?.unwrap_or_default()).map_err(de::Error::custom)
    }
}

/// Decimal string or `null` as [`BigInt`].
pub mod big {
    use super::*;

    /// Reads a number; `null` is 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BigInt, D::Error> {
        tokens_or_null::deserialize(d).map(|amount| amount.atto().clone())
    }
}

/// A list of base64 strings, or `null`, as bytes.
pub mod byte_strings {
    use super::*;

    /// Reads the list; `null` is an empty list, and in it an empty string.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts: Vec<Option<String>> = nullable::deserialize(d)?;
        let decode = |text: Option<String>| STANDARD.decode(text.unwrap_or_default()).map_err(de::Error::custom);
        texts.into_iter().map(decode).collect()
    }
}

/// Text with either prefix as [`Address`].
pub mod address {
    use super::*;

    /// Reads an address.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Address, D::Error> {
        AddressText::deserialize(d).map(|text| text.0)
    }
}

/// Text with either prefix, or Go's forms of an unset address, as an optional [`Address`].
pub mod address_opt {
    use super::*;

    /// Reads an address.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Address>, D::Error> {
        match Option::<String>::deserialize(d)?.as_deref() {
            None | Some("" | ADDRESS_UNDEFINED) => Ok(None),
            Some(text) => parse_address(text).map(|(address, _)| Some(address)).map_err(de::Error::custom),
        }
    }
}

/// A list of addresses; `null` is the empty list.
pub mod addresses {
    use super::*;

    /// Reads the list.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Address>, D::Error> {
        let texts: Vec<AddressText> = nullable::deserialize(d)?;
        Ok(texts.into_iter().map(|text| text.0).collect())
    }
}

/// A CID that is read from `{"/": "…"}`.
#[derive(Debug, Clone)]
pub struct CidLink(
    /// The CID.
    pub Cid,
);

impl<'de> Deserialize<'de> for CidLink {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Link {
            #[serde(rename = "/")]
            text: String,
        }
        let link = Link::deserialize(d)?;
        Cid::from_str(&link.text).map(CidLink).map_err(de::Error::custom)
    }
}

/// An address that is read from text with either prefix.
#[derive(Debug, Clone)]
pub struct AddressText(
    /// The address.
    pub Address,
    /// The prefix's network.
    pub Network,
);

impl<'de> Deserialize<'de> for AddressText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (address, network) =
            parse_address(&text).map_err(|error| de::Error::custom(format!("address `{text}`: {error}")))?;
        Ok(Self(address, network))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Oddities {
        #[serde(with = "cid_link")]
        cid: Cid,
        #[serde(deserialize_with = "cid_link_opt::deserialize")]
        none: Option<Cid>,
        #[serde(deserialize_with = "bytes::deserialize")]
        bytes: Vec<u8>,
        #[serde(deserialize_with = "tokens::deserialize")]
        amount: TokenAmount,
        #[serde(deserialize_with = "address_opt::deserialize")]
        new_worker: Option<Address>,
        #[serde(deserialize_with = "addresses::deserialize")]
        control: Vec<Address>,
    }

    const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";

    #[test]
    fn nulls_and_placeholders_of_go_are_read() {
        let value = json!({ "cid": {"/": CID}, "none": null, "bytes": null, "amount": "-12", "new_worker": "<empty>", "control": null });
        let read: Oddities = serde_json::from_value(value).unwrap();
        assert_eq!(read.cid.to_string(), CID);
        assert_eq!((read.none, read.bytes.len(), read.new_worker, read.control.len()), (None, 0, None, 0));
        assert_eq!(read.amount, TokenAmount::from_atto(-12));
    }

    #[test]
    fn both_prefixes_are_read_and_the_networks_is_written() {
        for text in ["f01000", "t01000"] {
            let (address, network) = parse_address(text).unwrap();
            assert_eq!(address, Address::new_id(1000));
            assert_eq!(address_text(&address, network), text);
        }
        assert!(parse_address("x01000").is_err());
        assert!(parse_address("").is_err());
        assert!(parse_address("é01").is_err());
    }

    #[test]
    fn amounts_are_bounded_and_exact() {
        assert_eq!(parse_tokens("1000000000000000000").unwrap(), TokenAmount::from_whole(1));
        assert!(parse_tokens(&"9".repeat(65)).is_err());
        assert!(parse_tokens("1.5").is_err());
        assert_eq!(tokens_text(&TokenAmount::from_whole(2)), "2000000000000000000");
    }
}
