/* onebit beside onnxruntime-web in one page of headless Chromium: one thread, batch 1, slices in turns.
 *
 *     node benchmarks/web/compare.js PEERS MODELS EXPORT RESULT.json
 *
 * PEERS: a folder with node_modules (npm install onnxruntime-web playwright-core). MODELS: what benchmarks/web/models.py made.
 * EXPORT: a folder of `onebit export web`, for its onebit.js. CHROMIUM: the browser, /usr/bin/chromium if not set. */
"use strict";
const fs = require("fs");
const http = require("http");
const os = require("os");
const path = require("path");
const [peers, models, exported, result] = process.argv.slice(2).map((p) => path.resolve(p));
const modules = path.join(peers, "node_modules");
const { chromium } = require(path.join(modules, "playwright-core"));
const ROUNDS = 15, SLICE = 250, WARM = 700; // milliseconds

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const roots = { ort: path.join(modules, "onnxruntime-web", "dist"), models, export: exported };
const server = http.createServer((request, response) => {
  const [, root, ...rest] = new URL(request.url, "http://localhost").pathname.split("/");
  const file = root === "" ? null : path.join(roots[root] || "/nowhere", ...rest);
  if (!file) return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>benchmark</title>");
  if (!fs.existsSync(file) || !fs.statSync(file).isFile()) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": TYPES[path.extname(file)] || "application/octet-stream" }).end(fs.readFileSync(file));
});

/* In the page: medians of milliseconds a picture of each side. */
async function measure([name, ROUNDS, SLICE, WARM]) {
  const model = await onebit.load(`/models/${name}/model.onebit`);
  const { channels, height, width } = model.shape, size = channels * height * width;
  const pixels = Uint8Array.from({ length: size }, (_, i) => (i * 2654435761) >>> 24);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  const x = new ort.Tensor("float32", Float32Array.from(pixels), [1, channels, height, width]);
  const session = (file) => ort.InferenceSession.create(`/models/${name}/${file}`, { executionProviders: ["wasm"] });
  const float = await session("float.onnx"), int8 = await session("int8.onnx");
  const sides = { onebit: async () => model.logits(pixels), int8: () => int8.run({ x }), float32: () => float.run({ x }) };
  const slice = async (run, time) => {
    const begin = performance.now();
    let n = 0, now = begin;
    while (now - begin < time) {
      await run();
      n++;
      now = performance.now();
    }
    return (now - begin) / n;
  };
  for (const run of Object.values(sides)) await slice(run, WARM);
  const all = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  for (let r = 0; r < ROUNDS; r++) for (const [side, run] of Object.entries(sides)) all[side].push(await slice(run, SLICE));
  return all;
}

const median = (xs) => [...xs].sort((a, b) => a - b)[xs.length >> 1];

(async () => {
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
  const found = { browser: browser.version(), cpu: os.cpus()[0].model, rounds: ROUNDS, slice_ms: SLICE, networks: {} };
  found["onnxruntime-web"] = JSON.parse(fs.readFileSync(path.join(modules, "onnxruntime-web", "package.json"))).version;
  for (const name of fs.readdirSync(models).sort()) {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.addScriptTag({ url: "/ort/ort.wasm.min.js" });
    await page.addScriptTag({ url: "/export/onebit.js" });
    const all = await page.evaluate(measure, [name, ROUNDS, SLICE, WARM]);
    const times = (side) => median(all[side].map((t, i) => t / all.onebit[i]));
    found.networks[name] = {
      milliseconds: Object.fromEntries(Object.entries(all).map(([side, xs]) => [side, median(xs)])),
      best: Object.fromEntries(Object.entries(all).map(([side, xs]) => [side, Math.min(...xs)])),
      times_int8: times("int8"),
      times_float32: times("float32"),
      slices: all,
    };
    const { slices, ...shown } = found.networks[name];
    console.log(name, JSON.stringify(shown));
    await page.close();
  }
  await browser.close();
  server.close();
  fs.writeFileSync(result, JSON.stringify(found, null, 1) + "\n");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
