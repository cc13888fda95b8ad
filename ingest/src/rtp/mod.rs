//! RTP media cores: no sockets, no clock of their own, no tasks. A session feeds them datagrams
//! and moments, drains them, and sleeps until the earliest `next_timeout`.
//!
//! | way | cores in the order of the road |
//! | --- | --- |
//! | publisher in | [`packet`] → [`rtx`] → [`reorder`] → [`payload`] → [`source_clock`]; back go [`rtcp`] with [`reception`], [`key_wish`], [`twcc`] or [`bwe_receive`] |
//! | viewer out | once per stream [`payload`] → [`frame`] → [`ring`]; per viewer [`choice`], [`join`], [`clock`], [`thin`] → [`mapping`] → [`packet`]; reports through [`twcc`] to [`estimate`]; requests for retransmission through [`mapping`] and [`ring`] to [`rtx`] |
//!
//! Nothing here encrypts, and nothing knows SDP: payload types, extension ids and SSRCs are told.

pub mod bwe_receive;
pub mod choice;
pub mod clock;
pub mod estimate;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod join;
pub mod key_wish;
pub mod mapping;
pub mod packet;
pub mod payload;
pub mod reception;
pub mod reorder;
pub mod ring;
pub mod rtcp;
pub mod rtx;
pub mod source_clock;
pub mod thin;
pub mod twcc;

pub use payload::{h264, opus};

#[cfg(test)]
mod story_tests;
