#!/usr/bin/env python3
"""Whether a WHIP or WHEP server keeps to its specification, seen from the client's side.

    whip.py publish http://127.0.0.1:8889/cam/whip
    whip.py watch   http://127.0.0.1:8889/cam/whep   (somebody must publish)

Asks what RFC 9725 and draft-ietf-wish-whep say of statuses, headers and bodies, and prints one line
for each rule: `ok`, `FAIL` with what came instead, or `note` where the specification only
recommends. Ends with 1 when a rule was broken. Needs Python 3.8 and nothing else: no media flows,
so sessions are deleted or left to the server's own limit. `--json` prints one object a line.
"""

import argparse
import http.client
import json
import ssl
import sys
from urllib.parse import urljoin, urlsplit

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
UFRAG, PASSWORD = "conf", "conformancepassword0123456"
FINGERPRINT = ":".join(["5A"] * 32)


def offer(direction):
    """As a browser writes it, with H.264, VP8, Opus and nobody behind it."""
    common = [
        "c=IN IP4 0.0.0.0", f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PASSWORD}", "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {FINGERPRINT}", "a=setup:actpass", f"a={direction}", "a=rtcp-mux",
    ]
    lines = [
        "v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
        "a=extmap-allow-mixed", "a=msid-semantic: WMS",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111", *common, "a=mid:0", "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "m=video 9 UDP/TLS/RTP/SAVPF 102 96", *common, "a=mid:1", "a=rtpmap:102 H264/90000",
        "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtcp-fb:102 nack", "a=rtcp-fb:102 nack pli", "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli",
    ]
    if direction == "sendonly":
        lines += ["a=msid:- picture", "a=ssrc:1001 cname:conformance", "a=ssrc:1001 msid:- picture"]
    return "\r\n".join(lines) + "\r\n"


def fragment(ufrag, password):
    """RFC 8840: one candidate of a generation."""
    return "\r\n".join([
        f"a=ice-ufrag:{ufrag}", f"a=ice-pwd:{password}", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 61764 typ host generation 0 network-id 1",
        "a=end-of-candidates",
    ]) + "\r\n"


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read().decode("utf-8", "replace")

    def __getitem__(self, name):
        return self.headers.get(name, "")

    def all(self, name):
        """Every value of a header that is a list, whether written in one line or several."""
        values = ",".join(self.headers.get_all(name, []))
        return [value.strip().lower() for value in values.split(",") if value.strip()]

    def __str__(self):
        return f"{self.status} {self.body.strip()[:120]!r}"


class Checker:
    def __init__(self, args):
        self.args, self.broken, self.asked = args, 0, 0
        self.direction = "sendonly" if args.role == "publish" else "recvonly"

    def ask(self, method, url, headers=None, body=None):
        parts = urlsplit(url)
        if parts.scheme == "https":
            context = ssl._create_unverified_context() if self.args.insecure else None
            connection = http.client.HTTPSConnection(parts.netloc, timeout=20, context=context)
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        headers = dict(headers or {})
        if self.args.token:
            headers["Authorization"] = f"Bearer {self.args.token}"
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=body, headers=headers)
        reply = Reply(connection.getresponse())
        connection.close()
        return reply

    def post(self, url=None, body=None, kind=SDP, **more):
        headers = {"Content-Type": kind, **more}
        return self.ask("POST", url or self.args.url, headers, offer(self.direction) if body is None else body)

    def rule(self, source, text, kept, came=""):
        self.asked += 1
        self.broken += not kept
        self.say("ok" if kept else "FAIL", source, text, "" if kept else str(came))

    def advice(self, source, text, kept, came=""):
        self.say("ok" if kept else "note", source, text, "" if kept else str(came))

    def say(self, verdict, source, text, came):
        if self.args.json:
            print(json.dumps({"verdict": verdict, "source": source, "rule": text, "came": came}), flush=True)
        else:
            print(f"{verdict:5} {source:12} {text}" + (f": {came}" if came else ""), flush=True)

    def run(self):
        self.preflight()
        self.refusals()
        session = self.session()
        if session:
            self.trickle(*session)
            self.restart(*session)
            self.end(session[0])
        self.full()
        total = f"{self.asked} rules, {self.broken} broken"
        print(json.dumps({"rules": self.asked, "broken": self.broken}) if self.args.json else total)
        return 1 if self.broken else 0

    def preflight(self):
        url, origin = self.args.url, {"Origin": "https://conformance.example"}
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        reply = self.ask("OPTIONS", url, {**origin, **asks})
        self.rule("RFC9725 4.2", "OPTIONS on the endpoint is answered with 2xx", 200 <= reply.status < 300, reply)
        self.advice("RFC9725 4.2", "OPTIONS names application/sdp in Accept-Post", SDP in reply.all("Accept-Post"), reply["Accept-Post"])
        allowed = reply["Access-Control-Allow-Origin"] in ("*", origin["Origin"])
        self.rule("Fetch CORS", "a preflight allows the origin", allowed, reply["Access-Control-Allow-Origin"])
        methods = reply.all("Access-Control-Allow-Methods")
        self.rule("Fetch CORS", "a preflight allows POST, PATCH and DELETE", {"post", "patch", "delete"} <= set(methods) or "*" in methods, methods)
        names = reply.all("Access-Control-Allow-Headers")
        wanted = {"authorization", "content-type", "if-match"}
        self.rule("Fetch CORS", "a preflight allows Authorization, Content-Type and If-Match", wanted <= set(names) or "*" in names, names)

    def refusals(self):
        for method in ("GET", "PUT"):
            reply = self.ask(method, self.args.url)
            text = f"{method} on the endpoint is 2xx without meaning or 405"
            self.rule("RFC9725 4.2", text, reply.status == 405 or method == "GET" and 200 <= reply.status < 300, reply)
            if reply.status == 405:
                self.rule("RFC9110", f"the 405 of {method} has Allow with POST", "post" in reply.all("Allow"), reply["Allow"])
        reply = self.post(kind="text/plain")
        self.rule("RFC9725 4.2", "an offer of another media type is refused with 415", reply.status == 415, reply)
        reply = self.post(body="this is no session description")
        self.rule("RFC9725 4.2", "a body that is no SDP is refused with 4xx", 400 <= reply.status < 500, reply)
        reply = self.post(body="v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")
        self.rule("RFC9725 4.2", "an offer without media is refused with 4xx", 400 <= reply.status < 500, reply)
        strange = offer(self.direction)
        for name in ("opus", "H264", "VP8"):
            strange = strange.replace(f" {name}/", " X-NOTHING/")
        reply = self.post(body=strange)
        self.rule("RFC9725 4.2", "an offer without a known codec is refused with 4xx", 400 <= reply.status < 500, reply)
        self.advice("RFC9110", "and with 406 or 422", reply.status in (406, 422), reply)
        # A server may answer and close before it has read all; then the answer can get lost.
        try:
            reply = self.post(body="v=0\r\n" + "a=filler\r\n" * 200_000)
            refused = 400 <= reply.status < 500
        except (BrokenPipeError, ConnectionResetError) as closed:
            reply, refused = closed, True
        self.rule("robustness", "2 MB of SDP are refused with 4xx, or the connection is closed", refused, reply)

    def session(self):
        reply = self.post(Origin="https://conformance.example")
        self.rule("RFC9725 4.2", "an offer is answered with 201", reply.status == 201, reply)
        if reply.status != 201:
            return None
        self.rule("RFC9725 4.2", "the answer is application/sdp", reply["Content-Type"].split(";")[0] == SDP, reply["Content-Type"])
        self.rule("RFC9725 4.2", "there is a Location", bool(reply["Location"]), reply.headers)
        self.advice("RFC9725 4.3", "there is a strong ETag, which ICE restarts need", reply["ETag"].startswith('"'), reply["ETag"])
        exposed = reply.all("Access-Control-Expose-Headers")
        readable = {"location", "etag", "link"}
        self.rule("Fetch CORS", "pages can read Location", "location" in exposed or "*" in exposed, exposed)
        self.advice("Fetch CORS", "pages can read ETag and Link", readable <= set(exposed) or "*" in exposed, exposed)
        for link in reply.headers.get_all("Link", []):
            if "ice-server" in link:
                self.rule("RFC9725 4.6", "an ICE server is a stun or turn URL", link.lstrip().startswith(("<stun", "<turn")), link.split(";")[0])
        location = urljoin(self.args.url, reply["Location"])
        self.answer(reply.body)
        return location, reply["ETag"]

    def answer(self, sdp):
        lines = sdp.splitlines()
        media = [line for line in lines if line.startswith("m=")]
        self.rule("RFC3264 6", "the answer has a section for each of the offer, in its order", [m.split()[0] for m in media] == ["m=audio", "m=video"], media)
        has = lambda start: any(line.startswith(start) for line in lines)
        value = lambda start: {line[len(start):] for line in lines if line.startswith(start)}
        self.rule("RFC8839", "the answer has ice-ufrag and ice-pwd", has("a=ice-ufrag:") and has("a=ice-pwd:"))
        self.rule("RFC8122", "the answer has a SHA-256 fingerprint or better", any(has(f"a=fingerprint:sha-{n} ") for n in (256, 384, 512)))
        self.rule("RFC5763 5", "actpass is answered with active or passive", bool(value("a=setup:")) and value("a=setup:") <= {"active", "passive"}, value("a=setup:"))
        wanted = "a=recvonly" if self.args.role == "publish" else "a=sendonly"
        directions = [line for line in lines if line in ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")]
        self.rule("RFC3264 6.1", f"the accepted sections are {wanted[2:]}", wanted in directions and set(directions) <= {wanted, "a=inactive"}, directions)
        self.rule("RFC9143", "the answer bundles", has("a=group:BUNDLE "))
        self.rule("RFC5761", "the answer multiplexes RTCP", has("a=rtcp-mux"))
        self.advice("RFC9725 4.2", "the answer has all its candidates", has("a=candidate:"))

    def trickle(self, url, tag):
        body = fragment(UFRAG, PASSWORD)
        send = lambda **headers: self.ask("PATCH", url, headers, body)
        named = {"If-Match": tag} if tag else {}
        reply = self.ask("PATCH", url, {"Content-Type": FRAGMENT, **named}, body)
        supported = reply.status not in (405, 501)
        self.advice("RFC9725 4.3", "PATCH is supported", supported, reply)
        if not supported:
            return
        self.rule("RFC9725 4.3.1", "a candidate is taken with 204", reply.status == 204, reply)
        reply = send(**{"Content-Type": "text/plain", **named})
        self.rule("RFC9725 4.3", "a fragment of another media type is refused with 415", reply.status == 415, reply)
        if tag:
            reply = send(**{"Content-Type": FRAGMENT, "If-Match": '"of another session"'})
            self.rule("RFC9725 4.3", "the entity tag of another session is refused with 412", reply.status == 412, reply)
            reply = send(**{"Content-Type": FRAGMENT})
            self.advice("RFC9725 4.3", "a fragment without If-Match is refused with 428", reply.status == 428, reply)
        reply = self.ask("PATCH", url, {"Content-Type": FRAGMENT, **named}, "this is no fragment")
        self.rule("RFC9725 4.3", "a body that is no fragment is refused with 4xx", 400 <= reply.status < 500, reply)

    def restart(self, url, tag):
        headers = {"Content-Type": FRAGMENT, "If-Match": "*"}
        reply = self.ask("PATCH", url, headers, fragment("next", "anotherpassword0123456789"))
        self.advice("RFC9725 4.3.3", "ICE restarts are supported", reply.status == 200, reply)
        if reply.status != 200:
            return
        self.rule("RFC9725 4.3.3", "a restart is answered with a fragment", reply["Content-Type"].split(";")[0] == FRAGMENT, reply["Content-Type"])
        self.rule("RFC9725 4.3.3", "with new ice-ufrag and ice-pwd", "a=ice-ufrag:" in reply.body and "a=ice-pwd:" in reply.body, reply)
        self.rule("RFC9725 4.3.3", "and a new entity tag", bool(reply["ETag"]) and reply["ETag"] != tag, reply["ETag"])
        old = self.ask("PATCH", url, {"Content-Type": FRAGMENT, "If-Match": tag}, fragment("next", "anotherpassword0123456789"))
        self.rule("RFC9725 4.3", "after which the old tag is refused with 412", old.status == 412, old)

    def end(self, url):
        reply = self.ask("POST", url, {"Content-Type": SDP}, offer(self.direction))
        self.rule("RFC9725 4.2", "POST on a session is refused with 405", reply.status == 405, reply)
        reply = self.ask("OPTIONS", url, {"Origin": "https://conformance.example", "Access-Control-Request-Method": "DELETE"})
        self.rule("Fetch CORS", "a preflight of a session is answered with 2xx", 200 <= reply.status < 300, reply)
        reply = self.ask("DELETE", url)
        self.rule("RFC9725 4.2", "DELETE ends the session with 2xx", 200 <= reply.status < 300, reply)
        for method, body in (("DELETE", None), ("PATCH", fragment(UFRAG, PASSWORD))):
            reply = self.ask(method, url, {"Content-Type": FRAGMENT, "If-Match": "*"}, body)
            self.rule("RFC9725 4.2", f"{method} on an ended session is refused with 404 or 410", reply.status in (404, 410), reply)
        if self.args.role == "publish":
            reply = self.post()
            self.rule("RFC9725 4.2", "after a DELETE the name is free at once", reply.status == 201, reply)
            if reply.status == 201:
                second = self.post()
                self.advice("RFC9725 4.2", "a second publisher is refused with 409, or takes over", second.status in (201, 409), second)
                for made in (reply, second):
                    if made.status == 201:
                        self.ask("DELETE", urljoin(self.args.url, made["Location"]))
        else:
            missing = self.args.url.replace("/whep", "-that-is-not-there/whep")
            reply = self.post(missing)
            self.advice("WHEP 4.2", "a stream that is not there is refused with 4xx", 400 <= reply.status < 500, reply)
            if reply.status in (404, 409):
                self.advice("WHEP 4.2", "and Retry-After says when to ask again", bool(reply["Retry-After"]), reply.headers)

    def full(self):
        """Opens sessions until the server has enough, which it must say in a way that can be obeyed."""
        if not self.args.fill or self.args.role == "publish":
            return
        opened = []
        for _ in range(self.args.fill):
            reply = self.post()
            if reply.status != 201:
                self.rule("RFC9725 4.5", "a full server answers 503 or 429", reply.status in (429, 503), reply)
                self.rule("RFC9725 4.5", "and Retry-After says when to ask again", bool(reply["Retry-After"]), reply.headers)
                break
            opened.append(urljoin(self.args.url, reply["Location"]))
        else:
            self.advice("RFC9725 4.5", f"{self.args.fill} sessions without media are too many", False, "all were let in")
        for url in opened:
            self.ask("DELETE", url)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("publish", "watch"))
    parser.add_argument("url", help="the WHIP or WHEP endpoint")
    parser.add_argument("--token", help="bearer token")
    parser.add_argument("--insecure", action="store_true", help="take any certificate")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--fill", type=int, default=0, metavar="N", help="with watch: open up to N sessions to see the server refuse one")
    sys.exit(Checker(parser.parse_args()).run())


main()
