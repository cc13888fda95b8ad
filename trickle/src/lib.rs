//! Named channels of numbered segments, published and read live.
//!
//! A publisher writes segments to a channel; any number of subscribers read them while they are
//! being written. A channel keeps the last few segments, a reader that falls out of them jumps to
//! the live edge and is told so. What is inside a segment is none of this crate's business.
//!
//! | | in process | over HTTP |
//! | --- | --- | --- |
//! | make, close, sweep channels | [`Server`] | [`Client::create`], [`Client::close`] |
//! | write | [`Server::local_publisher`] | [`Client::publisher`] |
//! | read | [`Server::local_subscriber`] | [`Client::subscriber`] |
//! | the other end | | [`Server::router`], [`tune_connection`] |
//!
//! Both columns give the same [`Publisher`] and [`Subscriber`] and follow the same rules, written
//! once in `channel`. The wire is that of the Livepeer network's trickle protocol.
//!
//! ```no_run
//! # async fn story() -> Result<(), Box<dyn std::error::Error>> {
//! let server = trickle::Server::new(trickle::Config::default());
//! server.create("cam", "video/MP2T", trickle::Access::ALL)?;
//! let mut publisher = server.local_publisher("cam")?;
//! let mut subscriber = server.local_subscriber("cam", trickle::Start::Next)?;
//!
//! let mut segment = publisher.next().await?;
//! segment.write("a chunk".into()).await?;
//! let mut reading = subscriber.next().await?.ok_or("ended")?;
//! assert_eq!(reading.chunk().await?.as_deref(), Some(&b"a chunk"[..]));
//! segment.close().await?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod channel;
mod client;
mod config;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod live;
mod local;
mod publisher;
mod routes;
mod server;
mod subscriber;

pub use channel::{ChannelStats, Start};
pub use client::{Client, ClientConfig, Trust};
pub use config::{Access, Ask, CHUNK_COST, Config, Hook, Limits, Wish};
pub use error::{Error, Fault, Refusal};
pub use http::is_name;
pub use publisher::{Delivery, Publisher, PublisherOptions, SegmentWriter};
pub use routes::tune_connection;
pub use server::{CHANGES, MIME_DEFAULT, Server, Snapshot};
pub use subscriber::{Segment, Subscriber, SubscriberOptions};

/// A path element of 128 random bits, 32 hexadecimal digits, to stand before a channel's name:
/// `{element}/{mid}-out` can only be used by who was told it.
pub fn unguessable() -> String {
    format!("{:032x}", rand::random::<u128>())
}
