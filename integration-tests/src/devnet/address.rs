//! Addresses as text. They are written with "t", as on Lotus' 2k network; both "f" and "t" are accepted.

use fvm_shared::ActorID;
use fvm_shared::address::{Address, Network};

/// The text form with the test network's prefix, independent of `fvm_shared`'s process-wide default.
pub fn to_text(address: &Address) -> String {
    let mut text = address.to_string();
    text.replace_range(0..1, "t");
    text
}

/// The text form of an ID address, e.g. `t01000`.
pub fn id_to_text(id: ActorID) -> String {
    to_text(&Address::new_id(id))
}

/// Parses an address with either network's prefix.
pub fn parse(text: &str) -> Result<Address, fvm_shared::address::Error> {
    Network::Testnet.parse_address(text).or_else(|_| Network::Mainnet.parse_address(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_prefixes_are_read_and_t_is_written() {
        let address = Address::new_id(1000);
        assert_eq!(to_text(&address), "t01000");
        assert_eq!(parse("t01000").ok(), Some(address));
        assert_eq!(parse("f01000").ok(), Some(address));
        assert!(parse("x01000").is_err());
        assert!(parse("").is_err());
    }
}
