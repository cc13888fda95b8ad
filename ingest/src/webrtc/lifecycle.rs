//! Sessions come and go: what a worker does when one is opened, restarted or over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::Role;
use super::answer::Agreed;
use super::counters::{add, sub};
use super::end::End;
use super::ice::{self, Credentials, Ice, Link};
use super::mux::Key;
use super::order::{LayerError, Open, OpenError, OpenMedia, Patch, PatchAnswer, PatchError};
use super::outlet::Outlet;
use super::publisher::Publisher;
use super::session::{Facts, Io, Media, Session};
use super::stream::{self, Stream};
use super::viewer::Viewer;
use super::worker::{Event, Worker};
use crate::hub::{self, KeyRequests, Reader, Writer};
use crate::name::StreamName;
use crate::views::Takes;

impl Worker {
    pub(super) fn open(&mut self, open: Open) -> Result<(), OpenError> {
        let now = Instant::now();
        let (client, print) = (open.agreed.dtls_client, open.agreed.fingerprint.clone());
        let data = open.agreed.data.is_some();
        let dtls = self.settings.identity.association(client, print, data);
        let dtls = dtls.map_err(|error| OpenError(error.to_string()))?;
        let key = Key(self.number());
        let facts = open.facts;
        let media = match open.media {
            OpenMedia::View(reader, takes) => {
                let number = self.watch(&facts.stream, (reader, takes), key);
                add(&self.settings.counters.viewers, 1);
                Media::Viewer(Box::new(Viewer::new(&open.agreed, number)))
            }
            OpenMedia::Publish(mut writer) => {
                let renditions = self.renditions(&facts, &open.agreed, &mut writer);
                let mut wishes = vec![self.forward_wishes((key, None), writer.key_requests())];
                for (place, rendition) in renditions.iter().enumerate() {
                    wishes.extend(rendition.as_ref().map(|writer| {
                        self.forward_wishes((key, Some(place)), writer.key_requests())
                    }));
                }
                add(&self.settings.counters.publishers, 1);
                let interval = self.settings.config.key_interval;
                let writers = (Outlet::new(writer), renditions);
                Media::Publisher(Box::new(Publisher::new(&open.agreed, writers, interval, wishes)))
            }
        };
        self.mux.add_fragment(&open.credentials.ufrag, key);
        self.secrets.insert(facts.secret.clone(), key);
        let ice = Ice::new(now, open.credentials, open.agreed.ufrag.clone());
        let mut seat = open.seat;
        if let Some(hurried) = seat.hurried() {
            let events = self.events.clone();
            // Ends with the handshake at the latest.
            tokio::spawn(async move {
                if hurried.await.is_ok() {
                    let _ = events.send(Event::GiveWay(key)).await;
                }
            });
        }
        let known = (facts, seat);
        let mut session = Session::new(now, known, ice, dtls, &open.agreed, media, self.patience);
        let next = session.next_timeout(now);
        self.timers.arm(key, &mut session.queued, next);
        self.sessions.insert(key, Box::new(session));
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds a viewer to its stream, which is read once for all who get the same form of it.
    fn watch(
        &mut self,
        name: &StreamName,
        (reader, takes): (Reader, &'static Takes),
        key: Key,
    ) -> u64 {
        let place = (name.clone(), reader.name().clone());
        let known = self.names.get(&place).copied();
        let number = known.unwrap_or_else(|| {
            let number = self.number();
            let source = reader.name().clone();
            let (audience, heard) = watch::channel(0);
            let feed = tokio::spawn(stream::feed(
                number,
                name.clone(),
                reader,
                (Arc::clone(&self.settings.views), takes),
                self.settings.config.rejoin_timeout,
                heard,
                self.events.clone(),
            ));
            let hub = self.settings.hub.clone();
            let stream =
                Stream::new(name.clone(), source, hub, audience, Some(feed.abort_handle()));
            self.streams.insert(number, stream);
            self.names.insert(place, number);
            number
        });
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.join(key);
        }
        number
    }

    /// Streams for the renditions that a publisher sends of its pictures, by their place. One that the
    /// hub has no room for is left out.
    fn renditions(
        &self,
        facts: &Facts,
        agreed: &Agreed,
        writer: &mut Writer,
    ) -> Vec<Option<Writer>> {
        let simulcast = agreed.video.as_ref().and_then(|video| video.simulcast.as_ref());
        let Some(simulcast) = simulcast else { return Vec::new() };
        let open = |rid: &String| {
            let id = facts.id.clone();
            let remote = facts.requested_from.to_string();
            let publisher = hub::Publisher { protocol: "webrtc", id, remote };
            let name = writer.name().of_rendition(rid);
            self.settings.hub.publish(name, publisher, true).ok()
        };
        let writers: Vec<Option<Writer>> = simulcast.rids.iter().map(open).collect();
        let names = writers.iter().flatten().map(|writer| writer.name().clone());
        let names: Vec<StreamName> = names.collect();
        writer.set_renditions(names);
        writers
    }

    /// Carries readers' wishes to the publisher's session, which ends it: those for the stream or
    /// for one rendition of it.
    fn forward_wishes(
        &self,
        (key, rendition): (Key, Option<usize>),
        mut requests: KeyRequests,
    ) -> tokio::task::AbortHandle {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            loop {
                requests.next().await;
                if events.send(Event::KeyWanted(key, rendition)).await.is_err() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Key> {
        self.sessions.iter().find(|(_, session)| session.open.id == id).map(|(key, _)| *key)
    }

    pub(super) fn by_secret(&self, role: Role, secret: &str) -> Option<Key> {
        let key = *self.secrets.get(secret)?;
        self.sessions.get(&key).is_some_and(|session| session.open.role == role).then_some(key)
    }

    pub(super) fn patch(&mut self, patch: Patch) -> Result<PatchAnswer, PatchError> {
        let key = self.by_secret(patch.role, &patch.secret).ok_or(PatchError::NoSession)?;
        let session = self.sessions.get_mut(&key).ok_or(PatchError::NoSession)?;
        if patch.etag.is_some_and(|tag| tag != session.open.etag) {
            return Err(PatchError::EntityTag);
        }
        let first = patch.fragment.sections.first();
        let transport = match first {
            Some(section) => patch.fragment.transport(section),
            None => patch.fragment.session.clone(),
        };
        let Some(theirs) = transport.ufrag.filter(|ufrag| !session.ice.is_theirs(ufrag)) else {
            // A lite agent has no use for candidates: it answers checks from wherever they come.
            return Ok(PatchAnswer::Trickled);
        };
        if transport.password.is_none() {
            return Err(PatchError::NoPassword);
        }
        let credentials = Credentials::generate(self.others.me());
        let retired = session.ice.restart(credentials.clone(), theirs);
        session.open.etag = ice::secret()[..16].to_owned();
        let (etag, mids) = (session.open.etag.clone(), session.open.mids.clone());
        let transports = session.open.transports;
        self.mux.add_fragment(&credentials.ufrag, key);
        if let Some(retired) = retired {
            self.mux.remove_fragment(&retired);
        }
        Ok(PatchAnswer::Restarted { credentials, etag, mids, transports })
    }

    /// A viewer wants one rendition of the pictures, or leaves it to the way.
    pub(super) fn choose(&mut self, secret: &str, rid: Option<String>) -> Result<(), LayerError> {
        let key = self.by_secret(Role::Viewer, secret).ok_or(LayerError::NoSession)?;
        let session = self.sessions.get_mut(&key).ok_or(LayerError::NoSession)?;
        let Media::Viewer(viewer) = &mut session.media else { return Err(LayerError::NoSession) };
        let stream = self.streams.get(&viewer.stream).ok_or(LayerError::NoSession)?;
        let place = match rid {
            Some(rid) => Some(stream.place(&rid).ok_or(LayerError::Unknown(rid))?),
            None => None,
        };
        viewer.ask_for(place);
        Ok(())
    }

    pub(super) fn end_replaced(&mut self, now: Instant) {
        let closed = |session: &Session| match &session.media {
            Media::Publisher(publisher) => publisher.is_closed(),
            Media::Viewer(_) => false,
        };
        let keys: Vec<Key> =
            self.sessions.iter().filter(|(_, s)| closed(s)).map(|(key, _)| *key).collect();
        for key in keys {
            self.end(now, key, End::Replaced);
        }
    }

    /// Says something to all viewers of a stream that have a data channel.
    pub(super) fn tell_viewers(&mut self, now: Instant, stream: u64, text: &str) {
        let viewers = self.streams.get(&stream).map(|stream| stream.viewers.clone());
        for key in viewers.unwrap_or_default() {
            self.with(now, key, |session, io, _| {
                session.tell(io, text);
                Ok(())
            });
        }
    }

    /// Ends viewers that did not agree on what their stream is now: they have to ask again.
    pub(super) fn end_misfits(&mut self, now: Instant, number: u64) {
        let Some(stream) = self.streams.get(&number) else { return };
        let misfit = |key: &&Key| match self.sessions.get(key).map(|session| &session.media) {
            Some(Media::Viewer(viewer)) => !viewer.fits(stream),
            _ => false,
        };
        let keys: Vec<Key> = stream.viewers.iter().filter(misfit).copied().collect();
        for key in keys {
            self.end(now, key, End::Recoded);
        }
    }

    pub(super) fn end(&mut self, now: Instant, key: Key, end: End) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        if end != End::Panicked {
            self.rtcp.clear();
            let mut io = Io {
                now,
                out: &mut self.port,
                path: None,
                buffer: &mut self.buffer,
                rtcp: &mut self.rtcp,
                questions: &mut self.questions,
                counters: &self.settings.counters,
                provider: &self.provider,
            };
            let _ = catch_unwind(AssertUnwindSafe(|| session.goodbye(&mut io)));
            self.questions.clear();
        }
        for fragment in session.ice.fragments() {
            self.mux.remove_fragment(fragment);
        }
        for source in session.ice.addresses() {
            self.mux.release(source, key);
            if let Link::Tcp(link) = source.link {
                self.port.links.close(link);
            }
        }
        self.secrets.remove(&session.open.secret);
        match &session.media {
            Media::Publisher(_) => sub(&self.settings.counters.publishers),
            Media::Viewer(viewer) => {
                sub(&self.settings.counters.viewers);
                self.unwatch(viewer.stream, key);
            }
        }
        tracing::info!(
            session = %session.open.id,
            stream = %session.open.stream,
            role = session.open.role.route(),
            reason = %end,
            "webrtc session ended"
        );
    }

    fn unwatch(&mut self, number: u64, key: Key) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.leave(key);
        if stream.viewers.is_empty() {
            self.names.retain(|_, known| *known != number);
            self.streams.remove(&number);
        }
    }

    pub(super) fn stop(&mut self) {
        let now = Instant::now();
        let keys: Vec<Key> = self.sessions.keys().copied().collect();
        for key in keys {
            self.end(now, key, End::Stopping);
        }
    }
}
