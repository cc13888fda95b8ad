//! The kinds of visits that a node is soaked with.

/// Ways to publish and to play with ffmpeg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Rtmp,
    Rtmps,
    Srt,
    RtspTcp,
    RtspUdp,
    Rtsps,
}

impl Way {
    /// To publish.
    pub(crate) const IN: [Self; 5] =
        [Self::Rtmp, Self::Rtmps, Self::Srt, Self::RtspTcp, Self::RtspUdp];
    /// To play.
    pub(crate) const OUT: [Self; 6] =
        [Self::Rtmp, Self::Rtmps, Self::Srt, Self::RtspTcp, Self::RtspUdp, Self::Rtsps];
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Visit {
    /// Publishes until its clip ends.
    Publish(Way),
    /// Publishes and is killed.
    PublishKilled(Way),
    /// Plays for a moment.
    Play(Way),
    /// Publishes by HTTP, a request a segment.
    HttpPush,
    /// Publishes by WHIP as FFmpeg does.
    Whip,
    /// Watches by WHEP as aiortc does; every other one is killed.
    Whep,
    /// Watches by WHEP until the first picture, over UDP.
    WhepUdp,
    /// The same over TCP.
    WhepTcp,
    /// Asks by WHEP and takes it back.
    WhepDeleted,
    /// Asks by WHEP and is not heard of again.
    WhepSilent,
    /// Reads playlists and a segment.
    Hls,
    /// Plays a recording.
    Playback,
    /// Looks at the node and changes a setting to and fro.
    Api,
    /// Is a server that a stream is pushed to, and goes while the stream is there.
    Destination,
    /// Connects to the door of this name and says nothing, half of a hello, or rubbish.
    Rude(&'static str),
}
