//! RTP media cores: no sockets, no clock of their own, no tasks. A session feeds them datagrams
//! and moments, drains them, and sleeps until the earliest `next_timeout`.
//!
//! | way | cores in the order of the road |
//! | --- | --- |
//! | publisher in | [`packet`] → [`rtx`] → [`reorder`] → [`h264`] or [`opus`] → [`source_clock`]; back go [`rtcp`] with [`reception`], [`key_wish`], [`twcc`] or [`bwe_receive`] |
//! | viewer out | once per stream [`h264`] or [`opus`] → [`frame`] → [`ring`]; per viewer [`join`], [`clock`], [`mapping`] → [`packet`]; requests for retransmission through [`mapping`] and [`ring`] to [`rtx`] |
//!
//! Nothing here encrypts, and nothing knows SDP: payload types, extension ids and SSRCs are told.

pub mod bwe_receive;
pub mod clock;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod h264;
pub mod join;
pub mod key_wish;
pub mod mapping;
pub mod opus;
pub mod packet;
pub mod reception;
pub mod reorder;
pub mod ring;
pub mod rtcp;
pub mod rtx;
pub mod source_clock;
pub mod twcc;

#[cfg(test)]
mod story_tests;
