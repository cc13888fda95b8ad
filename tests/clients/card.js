// Reads test cards (tests/it/card.rs) from a canvas and listens to the sound of a <video>.
// Runs inside the page: `watchCard(video, say)` calls `say` with lists of what was seen.
(() => {
  const CELLS = 20;

  function check(number, clock) {
    return (number * 31421 + (clock & 0xffff) * 6927 + (clock >>> 16) * 13849) % 65536;
  }

  // The three rows as numbers of 20 bits, from pixels of `width` x 3 cells.
  function rows(pixels, width) {
    const cell = width / CELLS;
    const found = [];
    for (let row = 0; row < 3; row++) {
      const y = Math.floor((row + 0.5) * cell);
      let bits = 0;
      for (let column = 0; column < CELLS; column++) {
        let sum = 0, count = 0;
        for (let x = Math.floor((column + 0.25) * cell); x < (column + 0.75) * cell; x++) {
          sum += pixels[(y * width + x) * 4 + 1];
          count++;
        }
        bits = bits * 2 + (sum / count > 127 ? 1 : 0);
      }
      found.push(bits);
    }
    return found;
  }

  function read(pixels, width) {
    let [first, clock, last] = rows(pixels, width);
    const inverted = first >>> 18 === 1 && (first & 3) === 2;
    if (inverted) [first, clock, last] = [first, clock, last].map((row) => row ^ 0xfffff);
    const framed = (row) => row >>> 18 === 2 && (row & 3) === 1;
    const number = (first >>> 2) & 0xffff;
    const right = framed(first) && framed(last) && ((last >>> 2) & 0xffff) === check(number, clock);
    return right ? { number, clock, inverted } : null;
  }

  function mean(pixels) {
    const sum = [0, 0, 0];
    for (let at = 0; at < pixels.length; at += 4) for (let c = 0; c < 3; c++) sum[c] += pixels[at + c];
    return sum.map((value) => Math.round(value / (pixels.length / 4)));
  }

  // What an analyser has: the loudest tone, and how loud all is.
  function judge(analyser, rate) {
    const bins = new Float32Array(analyser.frequencyBinCount);
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatFrequencyData(bins);
    analyser.getFloatTimeDomainData(samples);
    const loudest = bins.reduce((best, value, at) => (value > bins[best] ? at : best), 0);
    const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
    return { hertz: Math.round((loudest * rate) / analyser.fftSize), level: Math.sqrt(power) };
  }

  function analysing(context, source) {
    const analyser = context.createAnalyser();
    analyser.fftSize = 8192;
    source.connect(analyser);
    return analyser;
  }

  // Listens to a stream as it plays.
  let audio;
  function analysed(stream) {
    audio ??= new AudioContext();
    const analyser = analysing(audio, audio.createMediaStreamSource(stream));
    return () => judge(analyser, audio.sampleRate);
  }

  // The same where nothing plays since there is no sound card: half a second is recorded and decoded
  // at a time.
  function recorded(stream) {
    let heard;
    const record = () => {
      const recorder = new MediaRecorder(stream);
      const parts = [];
      recorder.ondataavailable = ({ data }) => parts.push(data);
      recorder.onstop = async () => {
        const context = new OfflineAudioContext(1, 48_000, 48_000);
        const bytes = await new Blob(parts).arrayBuffer();
        const clip = await context.decodeAudioData(bytes).catch(() => null);
        if (clip?.length > 12_000) {
          const source = context.createBufferSource();
          source.buffer = clip;
          // The analyser keeps the last of what was rendered: its middle.
          source.start(1 - 8192 / 48_000 - 0.02, clip.duration / 2);
          const analyser = analysing(context, source);
          await context.startRendering();
          heard = judge(analyser, 48_000);
        }
        if (stream.active) record();
      };
      recorder.start();
      setTimeout(() => recorder.state === "recording" && recorder.stop(), 500);
    };
    record();
    return () => heard;
  }

  window.watchCard = (video, say) => {
    const canvas = document.createElement("canvas");
    const drawing = canvas.getContext("2d", { willReadFrequently: true });
    let seen = [];
    const look = (_, facts) => {
      const width = video.videoWidth, height = video.videoHeight;
      if (width >= CELLS) {
        canvas.width = width;
        canvas.height = height;
        drawing.drawImage(video, 0, 0);
        const now = Date.now();
        const drawn = drawing.getImageData(0, 0, 1, 1).data[3] > 0;
        const card = read(drawing.getImageData(0, 0, width, (width / CELLS) * 3).data, width);
        const low = Math.floor(height * 0.82), tall = Math.floor(height * 0.1);
        // A video without a current frame leaves the canvas transparent: nothing was shown. A black
        // picture is opaque and counts.
        if (drawn) seen.push({
          ...(card ?? { unreadable: true }),
          now: now % (1 << 20),
          width, height,
          presented: facts.presentedFrames,
          rtp: facts.rtpTimestamp,
          left: mean(drawing.getImageData(Math.floor(width * 0.1), low, 40, tall).data),
          right: mean(drawing.getImageData(Math.floor(width * 0.7), low, 40, tall).data),
        });
      }
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);

    let source, listen;
    setInterval(() => {
      const track = video.srcObject?.getAudioTracks?.()[0];
      if (track && source !== track) {
        source = track;
        listen = (window.soundByRecorder ? recorded : analysed)(new MediaStream([track]));
      }
      const pictures = seen;
      seen = [];
      say({ pictures, sound: listen?.() });
    }, 250);
  };
})();
