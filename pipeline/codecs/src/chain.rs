//! Elements in a row, driven from the caller's thread.
//!
//! A buffer pushed into the first element's pad runs through the row inside that call, and what
//! comes out is collected from a pad of ours before the call returns. So the caller knows whether
//! an element has given a picture for the one it was fed, without waiting and without a clock.

use std::collections::VecDeque;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use parking_lot::Mutex;
use pipeline::stage::StageError;

/// A buffer that came out of a chain.
pub(crate) struct Output {
    pub(crate) buffer: gst::Buffer,
    pub(crate) caps: gst::Caps,
}

#[derive(Default)]
struct Inbox {
    caps: Option<gst::Caps>,
    outputs: VecDeque<Output>,
}

/// Elements in a row with a pad of ours at each end.
pub(crate) struct Chain {
    stage: &'static str,
    elements: Vec<gst::Element>,
    input: gst::Pad,
    output: gst::Pad,
    bus: gst::Bus,
    inbox: Arc<Mutex<Inbox>>,
    started: bool,
}

/// An element of this name; `init` has made sure that it exists.
pub(crate) fn element(name: &'static str) -> Result<gst::Element, StageError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|error| StageError::Failed { stage: name, reason: error.to_string() })
}

impl Chain {
    /// Links `elements` in a row. `accepts` is what may come out of the last one.
    pub(crate) fn new(
        stage: &'static str,
        elements: Vec<gst::Element>,
        accepts: &gst::Caps,
    ) -> Result<Self, StageError> {
        let failed = |what: &dyn std::fmt::Display| StageError::Failed {
            stage,
            reason: format!("cannot be set up: {what}"),
        };
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let template = gst::PadTemplate::new(
            "sink",
            gst::PadDirection::Sink,
            gst::PadPresence::Always,
            accepts,
        )
        .map_err(|error| failed(&error))?;
        let (chained, told) = (inbox.clone(), inbox.clone());
        let output = gst::Pad::builder_from_template(&template)
            .chain_function(move |_, _, buffer| {
                let mut inbox = chained.lock();
                let caps = inbox.caps.clone().ok_or(gst::FlowError::NotNegotiated)?;
                inbox.outputs.push_back(Output { buffer, caps });
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |pad, parent, event| {
                if let gst::EventView::Caps(caps) = event.view() {
                    told.lock().caps = Some(caps.caps_owned());
                }
                gst::Pad::event_default(pad, parent, event)
            })
            .query_function(|pad, parent, query| {
                // Decoders lend their own padded pictures only to those who read plane offsets.
                if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
                    allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                    return true;
                }
                gst::Pad::query_default(pad, parent, query)
            })
            .build();
        let input = gst::Pad::builder(gst::PadDirection::Src).build();
        let bus = gst::Bus::new();
        let chain = Self { stage, elements, input, output, bus, inbox, started: false };
        for pair in chain.elements.windows(2) {
            pair[0].link(&pair[1]).map_err(|error| failed(&error))?;
        }
        let ends = chain.elements.first().zip(chain.elements.last());
        let ends =
            ends.and_then(|(first, last)| first.static_pad("sink").zip(last.static_pad("src")));
        let (first, last) = ends.ok_or_else(|| failed(&"no pads"))?;
        chain.input.link(&first).map_err(|error| failed(&error))?;
        last.link(&chain.output).map_err(|error| failed(&error))?;
        for pad in [&chain.output, &chain.input] {
            pad.set_active(true).map_err(|error| failed(&error))?;
        }
        for element in chain.elements.iter().rev() {
            element.set_bus(Some(&chain.bus));
            element.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
        }
        Ok(chain)
    }

    /// Says what the buffers pushed from now on are.
    pub(crate) fn set_caps(&mut self, caps: &gst::Caps) -> Result<(), StageError> {
        if !self.started {
            self.input.push_event(gst::event::StreamStart::new(self.stage));
        }
        if !self.input.push_event(gst::event::Caps::new(caps)) {
            return Err(StageError::Unsupported { stage: self.stage, what: caps.to_string() });
        }
        if !self.started {
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            self.input.push_event(gst::event::Segment::new(&segment));
            self.started = true;
        }
        Ok(())
    }

    /// Runs one buffer through the elements.
    pub(crate) fn push(&self, buffer: gst::Buffer) -> Result<(), StageError> {
        match self.input.push(buffer) {
            Ok(_) => Ok(()),
            Err(flow) => Err(StageError::Failed {
                stage: self.stage,
                reason: self.words().unwrap_or_else(|| flow.to_string()),
            }),
        }
    }

    /// Runs an event through the elements, in order with the buffers.
    pub(crate) fn event(&self, event: gst::Event) -> bool {
        self.input.push_event(event)
    }

    /// Has the elements give out what they hold, as at the end of a stream. Only a flush or a new
    /// chain can follow.
    pub(crate) fn drain(&self) {
        self.input.push_event(gst::event::Eos::new());
    }

    /// The next buffer that has come out.
    pub(crate) fn pop(&self) -> Option<Output> {
        self.inbox.lock().outputs.pop_front()
    }

    /// What the output is, once an element has said it.
    pub(crate) fn caps(&self) -> Option<gst::Caps> {
        self.inbox.lock().caps.clone()
    }

    /// The last complaint of an element since this was asked before.
    pub(crate) fn words(&self) -> Option<String> {
        let mut words = None;
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Error(m) => words = Some(m.error().to_string()),
                gst::MessageView::Warning(m) => words = Some(m.error().to_string()),
                _ => {}
            }
        }
        words
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for element in &self.elements {
            // Only a failing driver could refuse, and then nothing is left to be done.
            let _ = element.set_state(gst::State::Null);
            element.set_bus(None);
        }
        let _ = self.input.set_active(false);
        let _ = self.output.set_active(false);
        self.bus.set_flushing(true);
    }
}
