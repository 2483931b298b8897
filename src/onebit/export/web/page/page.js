/* The page around onebit.js: pictures in, bars out, and the weights as cells. */
"use strict";
(async function () {
  const find = (id) => document.getElementById(id);
  const SHOWN = 10, CELL = [3, 8], MOST = 4_000_000; // classes; pixels a weight, at least and at most; cells drawn
  let model, stream, current;

  function complain(text) {
    find("message").textContent = text;
    find("message").hidden = !text;
  }
  const bytes = (n) => (n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(2)} MB`);
  const percent = (p) => `${(100 * p).toFixed(1)} %`;

  try {
    model = await onebit.load(onebit.fromBase64(find("model").textContent));
  } catch (error) {
    find("facts").textContent = "The network cannot be used.";
    find("answer").textContent = "";
    for (const control of document.querySelectorAll("button, input, select")) control.disabled = true;
    complain(`The model of this page cannot be used: ${error.message}. (${error.name})`);
    return;
  }
  const { channels, height, width } = model.shape;
  const layers = model.layers(), weights = layers.reduce((n, l) => n + l.outputs * l.inputs * l.height * l.width, 0);
  find("facts").textContent = `A network of ${weights.toLocaleString("en")} weights of one bit each, computed in this browser.`;
  find("size").textContent = bytes(model.bytes);
  find("shape").textContent = `${width} × ${height}, ${channels === 1 ? "grey" : channels === 3 ? "colour" : `${channels} channels`}`;
  find("invert-label").hidden = model.about.ground !== "dark";
  find("download").addEventListener("click", (event) => {
    event.currentTarget.href = URL.createObjectURL(new Blob([onebit.fromBase64(find("model").textContent)]));
  });

  /* -- the answer -------------------------------------------------------------------------------------------------- */

  function show(answer, quiet) {
    const rgba = new ImageData(width, height), n = answer.pixels.length / (width * height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) rgba.data[4 * i + c] = answer.pixels[i * n + (n === 3 ? c : 0)];
      rgba.data[4 * i + 3] = 255;
    }
    const seen = find("seen");
    seen.width = width;
    seen.height = height;
    seen.getContext("2d").putImageData(rgba, 0, 0);
    find("hint").hidden = true;
    seen.hidden = false;
    const [best] = answer.classes, line = `${best.name}, ${percent(best.probability)}`;
    if (!quiet || !find("answer").textContent.startsWith(`${best.name},`)) find("answer").textContent = line;
    find("time").textContent = `${answer.milliseconds.toFixed(2)} ms`;
    const bars = answer.classes.slice(0, SHOWN).map((c) => {
      const row = document.createElement("li"), name = document.createElement("span"), bar = document.createElement("span");
      const fill = document.createElement("i"), share = document.createElement("span");
      name.className = "name";
      name.textContent = name.title = c.name;
      bar.className = "bar";
      bar.setAttribute("aria-hidden", "true");
      fill.style.width = percent(c.probability).replace(" ", "");
      bar.append(fill);
      share.className = "share";
      share.textContent = percent(c.probability);
      row.append(name, bar, share);
      return row;
    });
    find("bars").replaceChildren(...bars);
  }

  async function use(source, quiet = false) {
    try {
      current = source;
      const answer = await model.predict(source, find("invert").checked);
      complain("");
      show(answer, quiet);
      window.lastAnswer = answer;
    } catch (error) {
      complain(error.message);
    }
  }

  /* -- ways in ----------------------------------------------------------------------------------------------------- */

  const picture = (items) => [...items].find((item) => item.type.startsWith("image/"));
  function take(files, what) {
    const file = picture(files);
    stop();
    if (file) use(file);
    else complain(`What was ${what} is not a picture.`);
  }
  find("file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files, "chosen");
    event.target.value = "";
  });
  addEventListener("paste", (event) => take(event.clipboardData.files, "pasted"));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || find("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
    take(event.dataTransfer.files, "dropped");
  });
  find("invert").addEventListener("change", () => current && use(current));

  function stop() {
    if (!stream) return;
    for (const track of stream.getTracks()) track.stop();
    stream = undefined;
    find("video").hidden = true;
    find("camera").setAttribute("aria-pressed", "false");
    find("camera").textContent = "Use the camera";
  }
  const REFUSED = {
    NotAllowedError: "The camera is not allowed to this page: allow it in the browser's settings for the page",
    NotFoundError: "There is no camera: connect one",
    NotReadableError: "The camera cannot be read: another program may use it",
  };
  async function start() {
    if (!navigator.mediaDevices) throw new Error("The browser gives this page no camera: open it over HTTPS or from localhost");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      stop();
      complain("The camera has stopped.");
    });
    complain("");
    find("video").srcObject = stream;
    find("video").hidden = false;
    find("camera").setAttribute("aria-pressed", "true");
    find("camera").textContent = "Stop the camera";
  }
  async function watch(mine) {
    while (stream === mine) {
      if (find("video").currentTime > 0) await use(find("video"), true); // what is there before is black
      await new Promise((next) => setTimeout(next, 100));
    }
  }
  let asking = false; // the browser asks the visitor
  find("camera").addEventListener("click", async () => {
    if (stream) return stop();
    if (asking) return;
    asking = true;
    try {
      await start();
      watch(stream);
    } catch (error) {
      complain(`${REFUSED[error.name] || error.message || error.name}, or choose a picture.`);
    }
    asking = false;
  });

  /* -- weights as bits --------------------------------------------------------------------------------------------- */

  const choice = find("layer");
  layers.forEach((layer, i) => {
    const text = `${layer.name}: ${layer.outputs} × ${layer.inputs} kernels of ${layer.height} × ${layer.width}`;
    choice.append(new Option(text, String(i)));
  });
  function draw() {
    const layer = layers[Number(choice.value)], canvas = find("weights"), style = getComputedStyle(document.documentElement);
    const rgb = (name) => {
      const hex = style.getPropertyValue(name).trim(), full = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
      return [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16));
    };
    const colours = [rgb("--zero"), rgb("--one")], across = layer.width + 1, down = layer.height + 1;
    const rows = Math.min(layer.outputs, Math.max(1, Math.floor(MOST / (layer.inputs * across * down))));
    canvas.width = layer.inputs * across - 1;
    canvas.height = rows * down - 1;
    const room = Math.floor((canvas.parentElement.clientWidth - 20) / canvas.width);
    const cell = Math.max(CELL[0], Math.min(CELL[1], room));
    canvas.style.width = `${canvas.width * cell}px`;
    canvas.style.height = `${canvas.height * cell}px`;
    const image = new ImageData(canvas.width, canvas.height);
    let ones = 0;
    for (let o = 0; o < rows; o++)
      for (let c = 0; c < layer.inputs; c++)
        for (let y = 0; y < layer.height; y++)
          for (let x = 0; x < layer.width; x++) {
            const bit = layer.bit(o, c, y, x), at = 4 * ((o * down + y) * canvas.width + c * across + x);
            ones += bit;
            image.data.set(colours[bit], at);
            image.data[at + 3] = 255;
          }
    canvas.getContext("2d").putImageData(image, 0, 0);
    const all = layer.outputs * layer.inputs * layer.height * layer.width, drawn = rows * layer.inputs * layer.height * layer.width;
    const part = rows < layer.outputs ? `, the first ${rows} of ${layer.outputs} outputs shown` : "";
    find("count").textContent = `${all.toLocaleString("en")} bits, ${percent(ones / drawn)} of them +1${part}`;
    canvas.setAttribute("aria-label", `Weights of ${choice.selectedOptions[0].text}; ${find("count").textContent}`);
  }
  choice.addEventListener("change", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choice.value = String(Math.min(1, layers.length - 1));
  draw();
  // A browser compiles code anew once it has run for a while: times are those of that code.
  const blank = new Uint8Array(channels * height * width);
  for (const begin = performance.now(); performance.now() - begin < 60; ) model.logits(blank);
  window.model = model; // for who looks into the page
  document.documentElement.dataset.ready = "yes";
})();
