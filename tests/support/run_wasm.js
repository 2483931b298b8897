/* node run_wasm.js CORE.wasm FOLDER: FOLDER holds 0.onebit, 0.pixels, 1.onebit, ... For each a line: the logits of all its
 * pictures, or the name of the status that the core gave. */
"use strict";
const fs = require("fs");
const path = require("path");
const [core, folder] = process.argv.slice(2);
const compiled = new WebAssembly.Module(fs.readFileSync(core));
for (let i = 0; fs.existsSync(path.join(folder, `${i}.onebit`)); i++) {
  const e = new WebAssembly.Instance(compiled, {}).exports;
  const file = fs.readFileSync(path.join(folder, `${i}.onebit`)), pixels = fs.readFileSync(path.join(folder, `${i}.pixels`));
  const place = e.reserve(file.length);
  new Uint8Array(e.memory.buffer, place, file.length).set(file);
  const status = e.load(place, file.length);
  if (status) {
    const bytes = new Uint8Array(e.memory.buffer, e.status_name(status));
    console.log(new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0))));
    continue;
  }
  const [channels, height, width, classes] = new Int32Array(e.memory.buffer, e.shape(), 7);
  const size = channels * height * width, out = [];
  for (let at = 0; at < pixels.length; at += size) {
    new Uint8Array(e.memory.buffer, e.picture(), size).set(pixels.subarray(at, at + size));
    if (e.run()) throw new Error("run failed");
    out.push(...new Int32Array(e.memory.buffer, e.logits(), classes));
  }
  console.log(out.join(" "));
}
