// Chromium as the viewers of `millstream bench join`: one that watches all the time, and others that
// come one after another, each at another place of the group of pictures, for three seconds.
//
//   node join.js http://127.0.0.1:8889/bench/whep 16 sound 10 2000
const { run, say, start } = require("./viewer.js");

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// The early viewer's jitter buffer finds its size.
const WARM_UP_MS = 6000;
const WATCHED_MS = 3000;

run(async (whep, square, sound, joins, group_ms) => {
  const browser = await start(whep, square, sound);
  const early = await browser.page(0);
  await early.go();
  say({ ready: browser.version });
  await pause(WARM_UP_MS);
  for (let viewer = 1; viewer <= joins; viewer += 1) {
    const late = await browser.page(viewer);
    // The golden section spreads them over the group, however many there are.
    const phase = (viewer * 0.618034) % 1;
    await pause(group_ms - (Date.now() % group_ms) + phase * group_ms);
    await late.go();
    await pause(WATCHED_MS);
    await late.tell();
    await late.close();
  }
  await early.tell();
  say({ done: true });
  await new Promise((end) => process.stdin.on("end", end).resume());
  await browser.close();
});
