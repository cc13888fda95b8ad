//! A viewer: first what is cached, then in a row with others ([`super::super::audience`]) what is
//! live, and on his own whenever he is behind.

use tokio::io::AsyncReadExt as _;
use tracing::{debug, info};

use super::super::audience::{Audience, Stay};
use super::super::session::Event;
use super::super::socket::Socket;
use super::further::{Further, News};
use super::{Connection, Error, READ_BEFORE_ACCESS, add, now};
use crate::hub::{Item, Reader};

/// A viewer is sent this many bytes at once, if they are there.
const WRITE_BATCH: usize = 64 << 10;

/// What a wait ended with.
enum Woken {
    /// So many bytes came; 0 at the end of the connection.
    Read(usize),
    /// There is something for the viewer.
    Item(Item),
    /// There is something of a further track.
    Further(News),
}

impl Connection {
    /// Sends the stream to the client until one of them ends.
    pub(super) async fn play(&mut self, mut reader: Reader) -> Result<(), Error> {
        self.session.accept(now());
        let audience = self.shared.audiences.of(reader.name());
        self.session.share(std::sync::Arc::clone(&audience.units));
        info!("RTMP viewer accepted");
        self.flush().await?;
        // What is cached is sent at once; what is live may wait for more. Rows see to that
        // themselves.
        let tls = matches!(self.socket, Socket::Tls(_));
        let merge = Some(self.shared.config.merge).filter(|merge| tls && !merge.is_zero());
        let mut live = false;
        // Forms of a stream may have a clock of their own.
        let takes_more = self.session.is_multitrack() && !reader.name().is_derived();
        let mut further = Further::new(self.shared.hub.clone(), reader.name().clone());
        loop {
            // Rows are for those who are sent the same.
            match takes_more {
                true => further.look(),
                false => self.sit(&audience, &mut reader).await?,
            }
            match self.wait_item(&mut reader, &mut further).await? {
                Woken::Read(0) => return Ok(()),
                Woken::Read(_) => {
                    while let Some(event) = self.session.handle(now(), &mut self.input)? {
                        if event == Event::End {
                            return Ok(());
                        }
                    }
                }
                Woken::Further(news) => {
                    let mut next = Some(news);
                    while let Some(News { kind, number, item }) = next {
                        self.session.send_further(kind, number, &item);
                        let room = self.session.output().len() < WRITE_BATCH;
                        next = if room { further.try_next() } else { None };
                    }
                }
                Woken::Item(item) => {
                    if let (true, Some(merge)) = (live, merge) {
                        tokio::select! {
                            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
                            () = tokio::time::sleep(merge) => {}
                        }
                    }
                    let mut next = Some(item);
                    let mut room = true;
                    while let Some(item) = next {
                        if !self.item(item).await? {
                            return Ok(());
                        }
                        room = self.session.output().len() < WRITE_BATCH;
                        next = if room { reader.try_next() } else { None };
                    }
                    live = room;
                }
            }
            self.flush().await?;
        }
    }

    /// Has a viewer who has had everything sit in a row until there is something that his own task
    /// must do. TLS has to encrypt for each viewer anyway: he stays here.
    async fn sit(&mut self, audience: &Audience, reader: &mut Reader) -> Result<(), Error> {
        let Socket::Plain(socket) = &self.socket else { return Ok(()) };
        if reader.behind() > 0 {
            return Ok(());
        }
        let outlet = self.session.take_outlet();
        let stay = Stay { outlet, socket: socket.clone(), meter: self.open.meter() };
        let stay = Box::new(stay);
        let (merge, counters) = (self.shared.config.merge, &self.shared.counters);
        let seat = match audience.sit(stay, reader, merge, counters) {
            Ok(seat) => seat,
            Err(stay) => {
                self.session.put_outlet(stay.outlet);
                return Ok(());
            }
        };
        if self.input.is_empty() {
            // Thousands sit there and say nothing.
            self.input = bytes::BytesMut::new();
        }
        let kicked = tokio::select! {
            () = self.open.cancel().cancelled() => true,
            () = seat.sent_back() => false,
            // The reading itself tells what was wrong.
            _ = socket.readable() => false,
        };
        let left = seat.leave().ok_or_else(|| Error::Panicked("in a row of viewers".into()))?;
        let (outlet, position) = left;
        self.session.put_outlet(outlet);
        reader.seek(position);
        if kicked { Err(self.cancelled()) } else { self.flush().await }
    }

    /// Gives one item to the viewer; false at the end.
    async fn item(&mut self, item: Item) -> Result<bool, Error> {
        match item {
            Item::Tracks(tracks) => {
                if !self.session.send_tracks(&tracks) {
                    add(&self.shared.counters.refused, 1);
                    self.session.end("the stream has nothing that RTMP can carry");
                    self.hang_up().await;
                    return Err(Error::Refused("no track that RTMP can carry".into()));
                }
            }
            Item::Packet(packet) => self.session.send_packet(&packet),
            Item::Lagged(packets) => {
                debug!(packets, "RTMP viewer was too slow");
                self.session.lagged();
            }
            Item::End => {
                self.session.end("the stream has ended");
                self.hang_up().await;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn wait_item(
        &mut self,
        reader: &mut Reader,
        further: &mut Further,
    ) -> Result<Woken, Error> {
        self.input.reserve(READ_BEFORE_ACCESS);
        let count = tokio::select! {
            biased;
            () = self.open.cancel().cancelled() => return Err(self.cancelled()),
            count = self.socket.read_buf(&mut self.input) => count?,
            item = reader.next() => return Ok(Woken::Item(item)),
            news = further.next() => return Ok(Woken::Further(news)),
        };
        self.count_in(count);
        Ok(Woken::Read(count))
    }
}
