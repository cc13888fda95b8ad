// One WebRTC session of a page without content, negotiated over HTTP (WHIP, WHEP) with nothing of
// the product's. Runs inside the page and tells what happens by `report`, which the driver gives.
(() => {
  const codecs = (kind, name) =>
    kind.getCapabilities("video").codecs.filter(({ mimeType }) => mimeType === "video/" + name);

  async function gathered(pc) {
    if (pc.iceGatheringState === "complete") return;
    await new Promise((done) => {
      pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && done());
      setTimeout(done, 2000);
    });
  }

  const told = (pc) => {
    pc.onconnectionstatechange = () => report({ state: pc.connectionState });
    report({ state: pc.connectionState });
  };

  // Negotiates and gives the session away. With `via`, media over this UDP address only.
  async function negotiate(pc, url, via) {
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    const headers = { "content-type": "application/sdp" };
    const answer = await fetch(url, { method: "POST", headers, body: pc.localDescription.sdp });
    const text = await answer.text();
    if (answer.status !== 201) throw new Error(answer.status + " " + text);
    const [host, port] = (via ?? "").split(":");
    const other = (line) => line.replace(/^(a=candidate:\S+ \d+ udp \d+) \S+ \d+/i, `$1 ${host} ${port}`);
    const there = (line) => !/^a=candidate:.* tcp /i.test(line);
    const sdp = via ? text.split("\r\n").filter(there).map(other).join("\r\n") : text;
    await pc.setRemoteDescription({ type: "answer", sdp });
    window.session = new URL(answer.headers.get("location"), url).href;
    window.answer = sdp;
    window.pc = pc;
    told(pc);
  }

  // Watches a stream; `codec`: this coding of pictures and no other.
  window.watchStream = async (url, codec, via) => {
    const pc = new RTCPeerConnection();
    const picture = pc.addTransceiver("video", { direction: "recvonly" });
    if (codec) picture.setCodecPreferences(codecs(RTCRtpReceiver, codec));
    pc.addTransceiver("audio", { direction: "recvonly" });
    const video = document.createElement("video");
    video.muted = true;
    video.autoplay = true;
    video.srcObject = new MediaStream();
    pc.ontrack = ({ track, receiver }) => {
      receiver.jitterBufferTarget = 0;
      video.srcObject.addTrack(track);
    };
    window.channel = pc.createDataChannel("millstream");
    channel.onopen = () => report({ channel: "open" });
    channel.onmessage = ({ data }) => report({ heard: JSON.parse(data) });
    document.body.append(video);
    watchCard(video, report);
    await negotiate(pc, url, via);
    await video.play();
  };

  // Publishes camera and microphone; `codec` as above, `layers` the encodings of simulcast.
  window.publishCamera = async (url, codec, layers) => {
    const size = { width: 640, height: 360, frameRate: 30 };
    const stream = await navigator.mediaDevices.getUserMedia({ video: size, audio: true });
    const pc = new RTCPeerConnection();
    for (const track of stream.getTracks()) {
      const several = track.kind === "video" && layers ? { sendEncodings: layers } : {};
      const way = { direction: "sendonly", streams: [stream], ...several };
      const sender = pc.addTransceiver(track, way);
      if (track.kind === "video" && codec) sender.setCodecPreferences(codecs(RTCRtpSender, codec));
    }
    await negotiate(pc, url);
  };

  // Other credentials for the same session (RFC 9725 4.3.3).
  window.restartIce = async () => {
    await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
    await gathered(pc);
    const wanted = /^(a=(group|ice-ufrag|ice-pwd|mid|candidate):|m=)/;
    const [head, first] = pc.localDescription.sdp.split(/^(?=m=)/m);
    const lines = (head + first).split("\r\n").filter((line) => wanted.test(line));
    const response = await fetch(session, {
      method: "PATCH",
      headers: { "content-type": "application/trickle-ice-sdpfrag", "if-match": "*" },
      body: lines.join("\r\n") + "\r\n",
    });
    const fragment = await response.text();
    if (response.status !== 200) throw new Error(response.status + " " + fragment);
    const of = (name) => fragment.match(new RegExp(`^a=${name}:(.*)\r$`, "m"))[1];
    const put = (sdp, name) => sdp.replace(new RegExp(`^a=${name}:.*(?=\r$)`, "gm"), `a=${name}:${of(name)}`);
    window.answer = put(put(answer, "ice-ufrag"), "ice-pwd");
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    report({ restarted: of("ice-ufrag") });
  };

  // The codings of pictures that this browser offers.
  window.codings = () => RTCRtpReceiver.getCapabilities("video").codecs.map(({ mimeType }) => mimeType);

  window.hangUp = async () => {
    if (window.session) await fetch(window.session, { method: "DELETE" });
    window.pc?.close();
  };
})();
