"""A player on GStreamer's rtspsrc: writes decoded pictures and sound to files until the stream ends.

    player.py PIPELINE

PIPELINE is gst-launch's language, with an rtspsrc named source and the chains of pictures and sound
behind elements named video and audio. gst-launch itself is no player of two streams: it links pads
from the threads that bring them, and when both come at once one of them may stay without its chain.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst


def linked(source, pad):
    media = pad.get_current_caps() or pad.query_caps(None)
    chain = pipeline.get_by_name(media.get_structure(0).get_string("media"))
    pad.link(chain.get_static_pad("sink"))


Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
pipeline.get_by_name("source").connect("pad-added", linked)
pipeline.set_state(Gst.State.PLAYING)
bus = pipeline.get_bus()
message = bus.timed_pop_filtered(Gst.CLOCK_TIME_NONE, Gst.MessageType.ERROR | Gst.MessageType.EOS)
pipeline.set_state(Gst.State.NULL)
if message.type == Gst.MessageType.ERROR:
    error, details = message.parse_error()
    sys.exit(f"{error.message} ({details})")
