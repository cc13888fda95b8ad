//! MPEG transport streams between the hub and those who carry them: SRT, UDP, pushes.

mod fanout;
mod feed;
mod line;
mod udp;

pub use fanout::{Fanout, TAKES};
pub use feed::{Feed, FeedError};
pub use udp::pull;
