"""aiortc as publisher and viewer for the tests of the node.

    peer.py watch   http://127.0.0.1:8889/cam-out/whep
    peer.py publish http://127.0.0.1:8889/cam/whip

Says what it sees as JSON lines on standard output; ends, with a DELETE, when standard input ends.
Cards are those of tests/it/card.rs.
"""

import asyncio
import fractions
import json
import math
import sys
import time
from urllib.parse import urljoin

import aiohttp
import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

CELLS, WIDTH, HEIGHT, RATE = 20, 320, 180, 15


def say(**event):
    print(json.dumps(event), flush=True)


def clock():
    return int(time.time() * 1000) % (1 << 20)


def check(number, at):
    return (number * 31421 + (at & 0xFFFF) * 6927 + (at >> 16) * 13849) % 65536


def draw(number):
    at = clock()
    framed = lambda value: 0b10 << 18 | value << 2 | 0b01
    cell = WIDTH // CELLS
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    rows = []
    for bits in (framed(number), at, framed(check(number, at))):
        row = b"".join(
            (b"\xeb" if bits >> (CELLS - 1 - column) & 1 else b"\x10") * cell for column in range(CELLS)
        )
        rows += [row] * cell
    rows += [bytes([60]) * WIDTH] * (HEIGHT - len(rows))
    for plane, lines in zip(frame.planes, (rows, None, None)):
        lines = lines or [b"\x80" * (WIDTH // 2)] * (HEIGHT // 2)
        plane.update(b"".join(line.ljust(plane.line_size, b"\x00") for line in lines))
    return frame


def read(frame):
    """Number, clock and whether it is inverted, or None."""
    plane = frame.planes[0]
    data, cell, found = memoryview(plane), frame.width / CELLS, []
    for row in range(3):
        y, bits = int((row + 0.5) * cell), 0
        for column in range(CELLS):
            start = y * plane.line_size + int((column + 0.25) * cell)
            near = data[start : start + max(1, int(cell / 2))]
            bits = bits << 1 | (sum(near) / len(near) > 125)
        found.append(bits)
    inverted = found[0] >> 18 == 1 and found[0] & 3 == 2
    if inverted:
        found = [row ^ 0xFFFFF for row in found]
    framed = lambda row: row >> 18 == 2 and row & 3 == 1
    number = found[0] >> 2 & 0xFFFF
    right = framed(found[0]) and framed(found[2]) and found[2] >> 2 & 0xFFFF == check(number, found[1])
    return (number, found[1], inverted) if right else None


async def watch_picture(track):
    while True:
        frame = await track.recv()
        card = read(frame)
        picture = dict(now=clock(), width=frame.width, height=frame.height)
        if card:
            picture.update(number=card[0], clock=card[1], inverted=card[2])
        else:
            picture.update(unreadable=True)
        say(pictures=[picture])


async def watch_sound(track):
    """Loudness and tone, by counting how often the wave goes up through zero."""
    crossings = samples = 0
    power, last = 0.0, 0
    while True:
        frame = await track.recv()
        channels = len(frame.layout.channels)
        # What lies beyond the samples is padding.
        plane = bytes(frame.planes[0])[: frame.samples * channels * 2]
        wave = memoryview(plane).cast("h")[::channels]
        for value in wave:
            crossings += last < 0 <= value
            power += value * value
            last = value
        samples += len(wave)
        if samples >= frame.sample_rate / 2:
            level = math.sqrt(power / samples) / 32768
            say(sound=dict(hertz=round(crossings * frame.sample_rate / samples), level=level))
            crossings, samples, power = 0, 0, 0.0


class Cards(MediaStreamTrack):
    kind = "video"

    def __init__(self):
        super().__init__()
        self.number, self.began = 0, time.monotonic()

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.number / RATE - time.monotonic()))
        frame = draw(self.number)
        frame.pts, frame.time_base = self.number * 90000 // RATE, fractions.Fraction(1, 90000)
        self.number += 1
        return frame


class Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self):
        super().__init__()
        self.at, self.began = 0, time.monotonic()
        # 960 samples of 1 kHz at 48 kHz begin and end at zero.
        wave = [round(8000 * math.sin(math.tau * 1000 * n / 48000)) for n in range(960)]
        self.wave = b"".join(value.to_bytes(2, "little", signed=True) for value in wave)

    async def recv(self):
        await asyncio.sleep(max(0, self.began + self.at / 48000 - time.monotonic()))
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update(self.wave.ljust(frame.planes[0].buffer_size, b"\x00"))
        frame.pts, frame.sample_rate, frame.time_base = self.at, 48000, fractions.Fraction(1, 48000)
        self.at += 960
        return frame


async def main(verb, url):
    pc = RTCPeerConnection()
    tasks = []
    pc.on("connectionstatechange", lambda: say(state=pc.connectionState))
    if verb == "watch":
        reads = {"video": watch_picture, "audio": watch_sound}
        pc.on("track", lambda track: tasks.append(asyncio.ensure_future(reads[track.kind](track))))
        pc.addTransceiver("video", direction="recvonly")
        pc.addTransceiver("audio", direction="recvonly")
    else:
        picture = pc.addTransceiver(Cards(), direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        picture.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])
        pc.addTransceiver(Tone(), direction="sendonly")
    await pc.setLocalDescription(await pc.createOffer())
    async with aiohttp.ClientSession() as http:
        sdp = {"Content-Type": "application/sdp"}
        async with http.post(url, data=pc.localDescription.sdp, headers=sdp) as answer:
            text = await answer.text()
            if answer.status != 201:
                say(failed=verb, problem=f"{answer.status} {text}")
                return
            location = urljoin(url, answer.headers["Location"])
        await pc.setRemoteDescription(RTCSessionDescription(text, "answer"))
        say(done=verb)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        async with http.delete(location) as answer:
            say(deleted=answer.status)
    for task in tasks:
        task.cancel()
    await pc.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))
