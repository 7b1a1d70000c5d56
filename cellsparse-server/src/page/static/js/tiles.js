// The image itself: tiles of samples from the server, shown with contrast and colours.

import { request, get } from "./api.js";

const SIDE = 512;
const KEPT = 160;
const TYPES = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array };

export class Tiles {
  constructor(view) {
    this.view = view;
    this.tiles = new Map();
    this.path = null;
    this.stamp = 0;
    this.channels = [];
    this.failed = () => {};
  }

  /** Shows another image. */
  open(path, rows, columns) {
    this.abort?.abort();
    this.abort = new AbortController();
    this.path = path;
    this.rows = rows;
    this.columns = columns;
    this.tiles.clear();
    this.view.draw();
  }

  close() {
    this.abort?.abort();
    this.path = null;
    this.tiles.clear();
  }

  ranges() {
    return get(`${this.path}/ranges`, this.abort.signal);
  }

  /** How each channel is shown: `{ show, low, high, colour: [r, g, b] }`. */
  display(channels) {
    this.channels = channels;
    this.stamp += 1;
    this.view.draw();
  }

  draw(context, visible, _, view) {
    if (!this.path || !this.channels.length) return;
    const ratio = window.devicePixelRatio || 1;
    const level = Math.max(0, Math.min(12, Math.floor(-Math.log2(view.scale * ratio) + 0.01)));
    // A coarse copy first, so that nothing is blank while the fine tiles come.
    const coarse = Math.max(level, Math.ceil(Math.log2(Math.max(this.rows, this.columns) / SIDE)), 0);
    for (const one of coarse > level ? [coarse, level] : [level]) this.drawLevel(context, visible, one);
  }

  drawLevel(context, [top, left, bottom, right], level) {
    const side = SIDE * 2 ** level;
    for (let row = Math.floor(top / side); row * side < bottom; row += 1) {
      for (let column = Math.floor(left / side); column * side < right; column += 1) {
        const tile = this.tile(level, row, column);
        if (!tile.samples) continue;
        if (tile.stamp !== this.stamp) this.render(tile);
        const step = 2 ** level;
        context.drawImage(tile.canvas, column * side, row * side, tile.columns * step, tile.rows * step);
      }
    }
  }

  tile(level, row, column) {
    const key = `${level}/${row}/${column}`;
    let tile = this.tiles.get(key);
    if (tile) {
      // The last ones of the map are those that were used last.
      this.tiles.delete(key);
      this.tiles.set(key, tile);
      return tile;
    }
    tile = { samples: null, stamp: -1 };
    this.tiles.set(key, tile);
    if (this.tiles.size > KEPT) this.tiles.delete(this.tiles.keys().next().value);
    this.load(tile, level, row, column);
    return tile;
  }

  async load(tile, level, row, column) {
    try {
      const query = `level=${level}&x=${column * SIDE}&y=${row * SIDE}&side=${SIDE}`;
      const response = await request(`${this.path}/pixels?${query}`, { signal: this.abort.signal });
      const [rows, columns, channels] = response.headers.get("x-cellsparse-shape").split(",").map(Number);
      const Type = TYPES[response.headers.get("x-cellsparse-samples")];
      const samples = new Type(await response.arrayBuffer());
      Object.assign(tile, { rows, columns, channels, samples });
      this.view.draw();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  render(tile) {
    const { rows, columns, channels, samples } = tile;
    if (!tile.canvas) {
      tile.canvas = document.createElement("canvas");
      tile.canvas.width = columns;
      tile.canvas.height = rows;
    }
    const context = tile.canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const shown = this.channels.map((channel, index) => ({ ...channel, index })).filter((channel) => channel.show);
    const { data } = image;
    for (let pixel = 0; pixel < rows * columns; pixel += 1) {
      let [red, green, blue] = [0, 0, 0];
      for (const { index, low, high, colour } of shown) {
        const value = Math.max(0, Math.min(1, (samples[pixel * channels + index] - low) / (high - low || 1)));
        red += value * colour[0];
        green += value * colour[1];
        blue += value * colour[2];
      }
      data[4 * pixel] = red;
      data[4 * pixel + 1] = green;
      data[4 * pixel + 2] = blue;
      data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    tile.stamp = this.stamp;
  }

  /** The samples of a pixel, if its tile is there. */
  at(x, y) {
    const tile = this.tiles.get(`0/${Math.floor(y / SIDE)}/${Math.floor(x / SIDE)}`);
    if (!tile?.samples) return null;
    const place = ((Math.floor(y) % SIDE) * tile.columns + (Math.floor(x) % SIDE)) * tile.channels;
    return Array.from(tile.samples.subarray(place, place + tile.channels));
  }
}
