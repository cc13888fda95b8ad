//! Addresses as text: the mixed-case checksum of EIP-55 out, any consistent form in.
//!
//! Text with mixed case must carry the right checksum; all-lower and all-upper text carries none
//! and is taken as it is, as EIP-55 says.

use alloy_primitives::{Address, keccak256};

/// Text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `0x` and 40 hexadecimal digits.
    #[error("an address is 0x and 40 hexadecimal digits, this has {length} characters")]
    Length {
        /// Characters seen.
        length: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("character {at} of the address is not a hexadecimal digit")]
    Digit {
        /// Position from 0, `0x` included.
        at: usize,
    },
    /// Mixed case whose pattern is not the checksum: most likely a typing error.
    #[error("the address does not match its EIP-55 checksum")]
    Checksum,
}

/// `0x` and 40 digits in the mixed case of EIP-55.
pub fn checksum(address: &Address) -> String {
    let mut text = hex::encode(address.as_slice());
    let hash = keccak256(text.as_bytes());
    let digits: String = text
        .drain(..)
        .enumerate()
        .map(|(i, digit)| {
            let nibble = hash[i / 2] >> (4 * (1 - i % 2)) & 0xf;
            if nibble >= 8 { digit.to_ascii_uppercase() } else { digit }
        })
        .collect();
    format!("0x{digits}")
}

/// Reads an address with or without `0x`; mixed case must match the checksum.
///
/// # Errors
/// Names the first thing that is wrong: length, a digit, the checksum.
pub fn parse_address(text: &str) -> Result<Address, AddressError> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let prefix = text.len() - digits.len();
    if digits.len() != 40 {
        return Err(AddressError::Length { length: text.chars().count() });
    }
    if let Some(at) = digits.bytes().position(|b| !b.is_ascii_hexdigit()) {
        return Err(AddressError::Digit { at: at + prefix });
    }
    let mut bytes = [0u8; 20];
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| AddressError::Length { length: text.len() })?;
    let address = Address::from(bytes);
    let lower = digits.bytes().any(|b| b.is_ascii_lowercase());
    let upper = digits.bytes().any(|b| b.is_ascii_uppercase());
    if lower && upper && checksum(&address)[2..] != *digits {
        return Err(AddressError::Checksum);
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of EIP-55.
    const EXAMPLES: [&str; 6] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn an_address_is_written_and_read_with_its_checksum() {
        for text in EXAMPLES {
            assert_eq!(checksum(&parse_address(text).unwrap()), text);
        }
    }

    #[test]
    fn one_letter_of_the_wrong_case_is_a_typing_error() {
        let wrong = EXAMPLES[2].replacen('A', "a", 1);
        assert_eq!(parse_address(&wrong), Err(AddressError::Checksum));
        assert!(parse_address(&EXAMPLES[2].to_lowercase()).is_ok());
    }

    #[test]
    fn text_that_is_no_address_is_refused_by_what_is_wrong() {
        assert_eq!(parse_address("0x12"), Err(AddressError::Length { length: 4 }));
        let with_g = format!("0x{}g", "1".repeat(39));
        assert_eq!(parse_address(&with_g), Err(AddressError::Digit { at: 41 }));
        assert!(parse_address("0xä234567890123456789012345678901234567890").is_err());
    }
}
