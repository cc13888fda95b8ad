//! Entry points for fuzzing what this crate reads from outside: signatures and addresses.

use alloy_primitives::B256;

/// One parser under fuzzing.
pub struct Target {
    /// Name in reports.
    pub name: &'static str,
    /// Must neither panic nor hang, whatever the bytes.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: &'static [&'static [u8]],
}

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "chain_signature", run: signature, seeds: &[&[27; 65], &[0; 64], &[0xff; 65]] },
    Target {
        name: "chain_address",
        run: address,
        seeds: &[b"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", b"0x"],
    },
];

fn signature(bytes: &[u8]) {
    if let Ok(address) = crate::recover_hash(&B256::repeat_byte(7), bytes) {
        // What is accepted has one form only: flipping v names somebody else or nobody.
        let mut other = [0u8; 65];
        other.copy_from_slice(bytes);
        other[64] = 55 - other[64];
        assert_ne!(crate::recover_hash(&B256::repeat_byte(7), &other), Ok(address));
    }
}

fn address(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = crate::parse_address(text)
    {
        assert_eq!(crate::parse_address(&crate::checksum(&address)), Ok(address));
    }
}
