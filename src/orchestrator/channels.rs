//! The channels of a session: their names, and the tasks that write them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::packet::VideoTrack;
use pipeline::{Packet, Tracks};
use tokio::sync::mpsc;

use crate::hops::{Hop, Hops};
use crate::link;
use crate::rpc::live::{DOCUMENT_BYTES_MAX, Event};

/// The channels of a session by name on the node's trickle server.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    /// Source segments.
    pub(crate) input: String,
    /// Processed segments.
    pub(crate) output: String,
    /// Parameters and wishes.
    pub(crate) control: String,
    /// Status and answers.
    pub(crate) events: String,
    /// Tickets, if paid by frame.
    pub(crate) payment: String,
    /// Their receipts, if paid by frame.
    pub(crate) receipts: String,
}

impl Channels {
    /// Names of a session: an unguessable element before the network's form.
    pub(crate) fn new(manifest_id: &str) -> Self {
        let base = format!("{}/{manifest_id}", trickle::unguessable());
        Self {
            output: format!("{base}-out"),
            control: format!("{base}-control"),
            events: format!("{base}-events"),
            payment: format!("{base}-pay"),
            receipts: format!("{base}-receipts"),
            input: base,
        }
    }

    /// All names.
    pub(crate) fn all(&self) -> [&str; 6] {
        [&self.input, &self.output, &self.control, &self.events, &self.payment, &self.receipts]
    }
}

/// Coded pictures into the `-out` channel.
pub(super) async fn publish_output(
    mut packets: mpsc::Receiver<(Packet, VideoTrack)>,
    publisher: trickle::Publisher,
    hops: Arc<Hops>,
) -> anyhow::Result<()> {
    let Some((first, track)) = packets.recv().await else { return Ok(()) };
    let tracks = |track: VideoTrack| Tracks { video: Some(track), audio: None };
    let mut current = tracks(track);
    let mut sender = link::Sender::new(publisher, &current)?;
    sender.send(&first).await?;
    while let Some((packet, track)) = packets.recv().await {
        if packet.key && current.video.as_ref() != Some(&track) {
            current = tracks(track);
            sender.set_tracks(&current)?;
        }
        let pts = packet.pts;
        sender.send(&packet).await?;
        hops.mark(Hop::Downlink, pts, Instant::now(), Duration::ZERO);
    }
    Ok(())
}

/// Events into their channel, one a segment.
pub(super) async fn publish_events(
    mut events: mpsc::Receiver<Event>,
    mut publisher: trickle::Publisher,
) -> anyhow::Result<()> {
    while let Some(event) = events.recv().await {
        let mut segment = publisher.next().await?;
        segment.write(serde_json::to_vec(&event)?.into()).await?;
        drop(segment.close());
    }
    Ok(())
}

/// A whole document of a segment; `None` when it is broken off or larger than allowed.
pub(crate) async fn read_document(
    segment: &mut trickle::Segment,
) -> anyhow::Result<Option<Vec<u8>>> {
    let mut document = Vec::new();
    loop {
        match segment.chunk().await {
            Ok(Some(chunk)) if document.len() + chunk.len() <= DOCUMENT_BYTES_MAX => {
                document.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(Some(document)),
            Ok(Some(_)) | Err(trickle::Error::Reset { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
