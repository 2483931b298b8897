/* node run.js PAGE < pixels > logits: the page's own model and WebAssembly, without a browser. */
"use strict";
const fs = require("fs");
const vm = require("vm");
const page = fs.readFileSync(process.argv[2], "utf8");
const scripts = [...page.matchAll(/<script( [^>]*)?>([\s\S]*?)<\/script>/g)];
vm.runInThisContext(scripts[1][2]);
const bytes = fs.readFileSync(0);
globalThis.onebit
  .load(globalThis.onebit.fromBase64(scripts[0][2]))
  .then((model) => {
    const { channels, height, width } = model.shape, size = channels * height * width;
    for (let at = 0; at < bytes.length; at += size) {
      const logits = model.logits(bytes.subarray(at, at + size));
      fs.writeSync(1, new Uint8Array(logits.buffer));
    }
  })
  .catch((error) => {
    process.stderr.write(`${error.message} (${error.name})\n`);
    process.exit(1);
  });
