// Chromium as the viewer of `millstream bench glass`. Ends when standard input ends.
//
//   node glass.js http://127.0.0.1:8889/bench-out/whep 16 sound
const { run, say, start } = require("./viewer.js");

run(async (whep, square, sound) => {
  const browser = await start(whep, square, sound);
  const page = await browser.page(0);
  await page.go();
  say({ ready: browser.version });
  await new Promise((end) => process.stdin.on("end", end).resume());
  await browser.close();
});
