//! What nodes say to each other: the network's own messages and calls, with the fields that only
//! Millstreams use beside them.

pub mod capabilities;
pub mod client;
pub mod credentials;
pub mod live;

/// The generated messages of `net.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "generated"
)]
pub mod net {
    tonic::include_proto!("net");
}
