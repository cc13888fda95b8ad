//! Keys, signatures and the units of Ethereum
