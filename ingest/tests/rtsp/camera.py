"""A camera on gst-rtsp-server, for admin with the password secret.

    camera.py digest|basic [PORT]

/cam has H.264 and G.711, /hevc has H.265 and AAC, /opus has H.264 and Opus. Prints its port once it
listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

PICTURE = "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=180,framerate=25/1"
SOUND = "audiotestsrc is-live=true ! audioconvert ! audioresample"
H264 = "x264enc tune=zerolatency key-int-max=25 ! rtph264pay name=pay0 pt=96"
MOUNTS = {
    "/cam": (H264, "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1"),
    "/hevc": (
        "x265enc speed-preset=ultrafast tune=zerolatency key-int-max=25"
        " ! rtph265pay config-interval=-1 name=pay0 pt=96",
        "audio/x-raw,rate=48000,channels=1 ! avenc_aac ! rtpmp4gpay name=pay1 pt=97",
    ),
    "/opus": (H264, "audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay name=pay1 pt=97"),
}

method = sys.argv[1]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[2] if len(sys.argv) > 2 else "0")

token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "viewer")
auth = GstRtspServer.RTSPAuth()
if method == "digest":
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest("admin", "secret", token)
else:
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("admin", "secret"), token)
server.set_auth(auth)

for path, (picture, sound) in MOUNTS.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {PICTURE} ! {picture} {SOUND} ! {sound} )")
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
    server.get_mount_points().add_factory(path, factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
