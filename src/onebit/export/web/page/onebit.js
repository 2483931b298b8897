/* onebit in a browser (or node): packed models computed from their bits, in WebAssembly. No requests but the ones you ask for.
 *
 *     const model = await onebit.load("model.onebit");        an address, or the bytes of a packed file
 *     const answer = await model.predict(picture);            a file, <img>, <video>, <canvas>, ImageBitmap, ...
 *     answer.classes                                          [{name, probability, logit}], the likeliest first
 *     model.logits(pixels)                                    Int32Array [classes] of Uint8Array [height * width * channels]
 */
"use strict";
(function (root) {
  const LAYERS = ["table", "conv", "norm", "average", "max", "logits"];
  const FIXED = 22; // bits behind the point of a resampling weight

  function fromBase64(text) {
    const letters = atob(text.trim());
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  }

  /* -- pictures, as Python's `onebit predict` fits them ------------------------------------------------------------ */

  function roundEven(x) {
    const low = Math.floor(x), part = x - low;
    return part < 0.5 || (part === 0.5 && low % 2 === 0) ? low : low + 1;
  }
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  const FILTERS = {
    lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
    bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  };

  /* For each of `size` outputs over [from, to) of `all` inputs: the first input and the weights, 22 bits behind the point. */
  function weights(filter, all, from, to, size) {
    const scale = Math.fround(to - from) / size, wide = Math.max(scale, 1), support = filter.support * wide, out = [];
    for (let i = 0; i < size; i++) {
      const centre = from + (i + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - support + 0.5));
      const end = Math.min(all, Math.trunc(centre + support + 0.5));
      const raw = [];
      let sum = 0;
      for (let x = first; x < end; x++) {
        const w = filter.at((x - centre + 0.5) * (1 / wide));
        raw.push(w);
        sum += w;
      }
      out.push({ first, weights: Int32Array.from(raw, (w) => {
        const fixed = (sum ? w / sum : w) * (1 << FIXED);
        return Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
      }) });
    }
    return out;
  }

  const clip = (sum) => { const x = sum >> FIXED; return x < 0 ? 0 : x > 255 ? 255 : x; };

  /* Each column a sum of columns. */
  function across({ width, height, channels, data }, columns) {
    const to = new Uint8Array(height * columns.length * channels);
    for (let y = 0, at = 0; y < height; y++)
      for (const { first, weights: w } of columns) {
        const from = (y * width + first) * channels;
        for (let c = 0; c < channels; c++) {
          let sum = 1 << (FIXED - 1);
          for (let k = 0; k < w.length; k++) sum += data[from + k * channels + c] * w[k];
          to[at++] = clip(sum);
        }
      }
    return { width: columns.length, height, channels, data: to };
  }

  /* Each row a sum of rows. */
  function down({ width, channels, data }, rows) {
    const stride = width * channels, to = new Uint8Array(rows.length * stride);
    let at = 0;
    for (const { first, weights: w } of rows)
      for (let x = first * stride; x < (first + 1) * stride; x++) {
        let sum = 1 << (FIXED - 1);
        for (let k = 0; k < w.length; k++) sum += data[x + k * stride] * w[k];
        to[at++] = clip(sum);
      }
    return { width, height: rows.length, channels, data: to };
  }

  /* Part `box` [left, top, right, bottom] of a picture {width, height, channels, data}, resized. Each pass rounds to bytes, so
   * their order matters: rows come first where, as Pillow 13 decides it, there are to be many fewer of them. */
  function resize(picture, width, height, box, filter) {
    const side = (pass, all, from, to, size) =>
      size === all && from === 0 && to === all ? (x) => x : (x) => pass(x, weights(filter, all, from, to, size));
    const columns = side(across, picture.width, box[0], box[2], width);
    const rows = side(down, picture.height, box[1], box[3], height);
    const less = picture.height - height;
    return less > 0 && less > 2 * (picture.width - width) ? columns(rows(picture)) : rows(columns(picture));
  }

  function cut(picture, left, top, width, height) {
    const { channels } = picture, data = new Uint8Array(width * height * channels);
    for (let y = 0; y < height; y++) {
      const from = ((top + y) * picture.width + left) * channels;
      data.set(picture.data.subarray(from, from + width * channels), y * width * channels);
    }
    return { width, height, channels, data };
  }

  /* The largest centre part with the proportions of width x height, or `share` of it. */
  function part(picture, width, height, share) {
    const unit = share * Math.min(picture.width / width, picture.height / height);
    const w = Math.max(1, Math.min(picture.width, roundEven(unit * width)));
    const h = Math.max(1, Math.min(picture.height, roundEven(unit * height)));
    return cut(picture, Math.floor((picture.width - w) / 2), Math.floor((picture.height - h) / 2), w, h);
  }

  function resized(picture, width, height, filter) {
    if (picture.width === width && picture.height === height) return picture;
    return resize(picture, width, height, [0, 0, picture.width, picture.height], filter);
  }

  /* Uint8Array [height * width * channels] of a picture of any size, as "square" or "crop" asks. */
  function fit(picture, shape, how) {
    const { width, height } = shape;
    if (how !== "crop") return resized(part(picture, width, height, 1), width, height, FILTERS.lanczos).data;
    if (width !== height) return resized(part(picture, width, height, 224 / 256), width, height, FILTERS.bilinear).data;
    const size = width, shorter = roundEven((256 * size) / 224);
    const wide = picture.width <= picture.height;
    const w = wide ? shorter : Math.max(shorter, roundEven((picture.width * shorter) / picture.height));
    const h = wide ? Math.max(shorter, roundEven((picture.height * shorter) / picture.width)) : shorter;
    const left = Math.floor((w - size) / 2), top = Math.floor((h - size) / 2), x = picture.width / w, y = picture.height / h;
    const box = [left * x, top * y, Math.min((left + size) * x, picture.width), Math.min((top + size) * y, picture.height)];
    return resize(picture, size, size, box.map(Math.fround), FILTERS.bilinear).data; // Pillow's box has 32 bits
  }

  /* RGBA as a browser gives it, as RGB or as grey (the integers of ITU-R 601 that Pillow uses). */
  function channelsOf(rgba, width, height, channels) {
    const data = new Uint8Array(width * height * channels);
    for (let i = 0, at = 0; i < rgba.length; i += 4)
      if (channels === 1) data[at++] = (rgba[i] * 19595 + rgba[i + 1] * 38470 + rgba[i + 2] * 7471 + 0x8000) >> 16;
      else for (let c = 0; c < 3; c++) data[at++] = rgba[i + c];
    return { width, height, channels, data };
  }

  /* A picture of the browser as {width, height, channels, data}; transparent parts show white. */
  async function decode(source, channels) {
    let image = source;
    if (typeof Blob !== "undefined" && source instanceof Blob)
      image = await createImageBitmap(source, { colorSpaceConversion: "none" }).catch(() => {
        throw new Error(`${source.name || "this"} is not a picture that this browser can read`);
      });
    const width = image.videoWidth || image.naturalWidth || image.width;
    const height = image.videoHeight || image.naturalHeight || image.height;
    if (!width || !height) throw new Error("the picture is empty or not loaded yet");
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(image, 0, 0, width, height);
    return channelsOf(context.getImageData(0, 0, width, height).data, width, height, channels);
  }

  /* -- models ------------------------------------------------------------------------------------------------------ */

  class Model {
    constructor(core, file) {
      const place = core.reserve(file.length);
      if (!place) throw new Error("there is no memory left for the model");
      new Uint8Array(core.memory.buffer, place, file.length).set(file);
      const status = core.load(place, file.length);
      if (status) {
        const text = (at) => {
          const bytes = new Uint8Array(core.memory.buffer, at);
          return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
        };
        const operation = core.operation() < 0 ? "" : ` (operation ${core.operation()})`;
        const error = new Error(text(core.status_text(status)) + operation);
        error.name = text(core.status_name(status));
        throw error;
      }
      const [channels, height, width, classes, fraction, sharpness] = new Int32Array(core.memory.buffer, core.shape(), 7);
      this._core = core;
      this._sharpness = 2 ** -16 * sharpness;
      this.bytes = file.length;
      this.shape = { channels, height, width };
      this.scale = 2 ** -fraction; // a logit in real numbers is the integer times this
      const length = new DataView(file.buffer, file.byteOffset).getUint32(0, true);
      this._header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
      this._tensors = file.subarray(8 + length);
      this.about = this._header.__metadata__;
      this.classes = JSON.parse(this.about.classes);
      if (this.classes.length !== classes) throw new Error("the model has other classes than names");
    }

    /* Int32Array [classes] of raw pixels Uint8Array [height][width][channels]. */
    logits(pixels) {
      const { channels, height, width } = this.shape, size = channels * height * width, core = this._core;
      if (pixels.length !== size) throw new Error(`a picture of this model has ${size} numbers, not ${pixels.length}`);
      new Uint8Array(core.memory.buffer, core.picture(), size).set(pixels);
      core.run();
      return new Int32Array(core.memory.buffer, core.logits(), this.classes.length).slice();
    }

    /* [{name, probability, logit}] of logits, the likeliest first. */
    rank(logits) {
      const real = Array.from(logits, (x) => x * this.scale), most = Math.max(...real);
      const power = real.map((x) => Math.exp((x - most) * this._sharpness)), all = power.reduce((a, b) => a + b, 0);
      return real
        .map((logit, k) => ({ name: this.classes[k], probability: power[k] / all, logit }))
        .sort((a, b) => b.logit - a.logit);
    }

    /* The pixels that the model sees of any picture: Uint8Array [height][width][channels]. */
    async fit(source) {
      const { channels } = this.shape;
      if (channels !== 1 && channels !== 3) throw new Error(`the model takes ${channels} channels; a picture gives 1 or 3`);
      return fit(await decode(source, channels), this.shape, this.about.fit);
    }

    /* {classes, pixels, milliseconds}: what the model says about any picture. */
    async predict(source, invert = false) {
      const pixels = await this.fit(source);
      return this.predictPixels(invert ? pixels.map((x) => 255 - x) : pixels);
    }

    predictPixels(pixels) {
      const begin = performance.now(), logits = this.logits(pixels), milliseconds = performance.now() - begin;
      return { classes: this.rank(logits), logits, pixels, milliseconds };
    }

    /* Layers with 1-bit weights: [{name, outputs, inputs, height, width, bit(output, input, y, x)}]; bit 1 is +1, 0 is -1. */
    layers() {
      const tensor = (name) => {
        const [from, to] = this._header[name].data_offsets;
        return this._tensors.subarray(from, to);
      };
      const bits = tensor("bits"), program = tensor("program"), found = [], channels = [];
      const view = new DataView(program.buffer, program.byteOffset, program.length);
      for (let i = 0, at = 0; i < program.length / 48; i++) {
        const [kind, source, , outputs, height, width] = Array.from({ length: 6 }, (_, k) => view.getInt32(i * 48 + k * 4, true));
        channels.push(outputs || channels[source]);
        if (LAYERS[kind] !== "conv" && LAYERS[kind] !== "logits") continue;
        const inputs = channels[source], row = Math.ceil((inputs * height * width) / 8);
        const start = at;
        const bit = (o, c, y, x) => {
          const place = (y * width + x) * inputs + c;
          return (bits[start + o * row + (place >> 3)] >> (place & 7)) & 1;
        };
        at += outputs * row;
        found.push({ name: LAYERS[kind] === "conv" ? `convolution ${found.length + 1}` : "classifier", outputs, inputs, height, width, bit });
      }
      return found;
    }
  }

  async function bytesOf(source) {
    if (typeof source === "string" || source instanceof URL) {
      const answer = await fetch(source);
      if (!answer.ok) throw new Error(`${source}: ${answer.status} ${answer.statusText}`);
      source = await answer.arrayBuffer();
    }
    if (typeof Blob !== "undefined" && source instanceof Blob) source = await source.arrayBuffer();
    return source instanceof Uint8Array ? source : new Uint8Array(source);
  }

  /* The bytes of the core, which the export writes in here. */
  const WASM = "{{wasm}}";
  let compiled;

  /* A Model of a packed file: an address, a Blob, an ArrayBuffer or a Uint8Array. Rejects, with what is wrong, where the file is
   * damaged or no packed model, and where the browser has no WebAssembly SIMD. */
  async function load(source) {
    const file = await bytesOf(source);
    compiled ||= WebAssembly.compile(fromBase64(WASM)).catch(() => {
      compiled = undefined;
      throw new Error("this browser has no WebAssembly with SIMD; update it");
    });
    return new Model((await WebAssembly.instantiate(await compiled, {})).exports, file);
  }

  root.onebit = { load, Model, fit, fromBase64 };
  if (typeof module === "object") module.exports = root.onebit;
})(typeof globalThis === "object" ? globalThis : self);
