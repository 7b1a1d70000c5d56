// Click to outline: points and a box say which object is meant, the server's network answers with its pixels, and they become a
// drawn cell when they are accepted.

import { request } from "./api.js";
import { state, set, on, byId, imagePath } from "./store.js";
import * as contrast from "./contrast.js";
import { say, showWeights } from "./dialogs.js";

const [FILL, LINE] = ["rgb(255 232 150 / 38%)", "#ffe896"];

export class Clicks {
  /** `accept(pixels)` stores the object as a drawn cell. */
  constructor(view, { accept }) {
    Object.assign(this, { view, store: accept });
    this.clear();
    this.abort = null; // of the question that is on its way
    this.again = false; // the prompt has changed meanwhile
    byId("take-outline").addEventListener("click", () => this.accept());
    byId("drop-outline").addEventListener("click", () => this.cancel());
    on("image tool", () => this.cancel());
  }

  clear() {
    this.inside = [];
    this.outside = [];
    this.rectangle = null;
    this.pixels = [];
    this.path = null;
  }

  get asked() {
    return this.inside.length + this.outside.length > 0 || this.rectangle !== null;
  }

  /** Takes the tool, or tells how to get what it needs. */
  take() {
    if (!state.sam?.kind) {
      showWeights(state.sam?.missing || "");
      return;
    }
    set({ tool: "click", chosen: null });
    this.look();
  }

  /** Has the image looked at before the first click, so that the first outline comes soon. */
  look() {
    if (state.tool === "click" && state.image && !this.asked) this.ask();
  }

  /** A point of the image that lies in the object, or beside it. */
  point(at, inside) {
    if (!this.within(at)) return;
    (inside ? this.inside : this.outside).push(at);
    this.ask();
  }

  /** A box around the object. */
  box(a, b) {
    const [rows, columns] = this.view.size;
    const clamp = ([x, y]) => [Math.max(0, Math.min(columns, x)), Math.max(0, Math.min(rows, y))];
    const [[ax, ay], [bx, by]] = [clamp(a), clamp(b)];
    const rectangle = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
    if (rectangle[2] - rectangle[0] < 1 || rectangle[3] - rectangle[1] < 1) return;
    this.rectangle = rectangle;
    this.ask();
  }

  within([x, y]) {
    return this.view.size && x >= 0 && y >= 0 && x < this.view.size[1] && y < this.view.size[0];
  }

  /** Asks for the object; without points and a box, has the image looked at. One question at a time: later ones are joined. */
  async ask() {
    if (this.abort) {
      this.again = true;
      return;
    }
    const { signal } = (this.abort = new AbortController());
    const json = {
      inside: this.inside, outside: this.outside, rectangle: this.rectangle, view: this.view.visible(), channels: contrast.shown(),
    };
    this.told(this.asked ? "Outlining\u2026 The first time in a part of an image takes some seconds." : "Looking at the image\u2026");
    try {
      const answer = await (await request(`${imagePath()}/outline`, { method: "POST", json, signal })).json();
      if (!signal.aborted) this.took(answer);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) {
        say(`Nothing was outlined. ${error.message}`);
        this.clear();
        this.told("");
      }
    }
    // What came behind a question that was given up is asked by who gave it up.
    if (this.abort?.signal !== signal) return;
    this.abort = null;
    if (this.again) {
      this.again = false;
      this.ask();
    }
  }

  took(answer) {
    this.pixels = this.asked ? answer.pixels || [] : [];
    this.path = this.pixels.length ? edges(this.pixels) : null;
    byId("stage").dataset.encoded = answer.encoded;
    if (!this.asked) this.told("Click on a cell, or drag a box around it. Shift or the right button: not this.");
    else if (this.path) this.told(`Score ${answer.score.toFixed(2)}. Enter takes it; more clicks correct it; Esc drops it.`);
    else this.told("Nothing was found there. Click elsewhere, or Esc.");
  }

  told(clicking) {
    byId("outlined").hidden = !this.path;
    byId("stage").dataset.outlined = this.pixels.reduce((sum, [, first, end]) => sum + end - first, 0);
    set({ clicking });
    this.view.draw();
  }

  /** The object becomes a drawn cell. */
  async accept() {
    if (!this.path || this.abort) return;
    const { pixels } = this;
    this.clear();
    this.told("Click on the next cell.");
    await this.store(pixels);
  }

  /** Gives up what was pointed at; whether there was something. */
  cancel() {
    const some = this.asked;
    this.abort?.abort();
    this.abort = null;
    this.again = false;
    this.clear();
    this.told(state.tool === "click" && some ? "Dropped. Click on a cell, or drag a box around it." : "");
    return some;
  }

  draw(context, _, pixel) {
    if (this.path) {
      context.fillStyle = FILL;
      for (const [row, first, end] of this.pixels) context.fillRect(first, row, end - first, 1);
      for (const [width, colour] of [[4, "rgb(0 0 0 / 60%)"], [2, LINE]]) {
        context.lineWidth = width * pixel;
        context.strokeStyle = colour;
        context.stroke(this.path);
      }
    }
    if (this.rectangle) drawBox(context, this.rectangle, pixel);
    // A plus and a minus, so that they are told apart without colours too.
    for (const at of this.inside) sign(context, at, pixel, "#7de28a", true);
    for (const at of this.outside) sign(context, at, pixel, "#ff8d7e", false);
  }
}

/** A dashed box, `[x0, y0, x1, y1]`. */
export function drawBox(context, [x0, y0, x1, y1], pixel) {
  context.lineWidth = 2 * pixel;
  context.strokeStyle = LINE;
  context.setLineDash([6 * pixel, 4 * pixel]);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

function sign(context, [x, y], pixel, colour, plus) {
  const arm = 6 * pixel;
  const path = new Path2D();
  path.moveTo(x - arm, y);
  path.lineTo(x + arm, y);
  if (plus) {
    path.moveTo(x, y - arm);
    path.lineTo(x, y + arm);
  }
  for (const [width, ink] of [[5, "#000000"], [2.5, colour]]) {
    context.lineWidth = width * pixel;
    context.strokeStyle = ink;
    context.stroke(path);
  }
}

/** The border of pixels that are given as runs `[row, first, end]`. */
function edges(runs) {
  const path = new Path2D();
  const rows = new Map();
  for (const [row, first, end] of runs) {
    if (!rows.has(row)) rows.set(row, []);
    rows.get(row).push([first, end]);
  }
  const line = (x0, y0, x1, y1) => {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  for (const [row, first, end] of runs) {
    line(first, row, first, row + 1);
    line(end, row, end, row + 1);
    for (const [y, next] of [[row, row - 1], [row + 1, row + 1]]) {
      let at = first;
      for (const [a, b] of rows.get(next) || []) {
        if (b <= at || a >= end) continue;
        if (a > at) line(at, y, a, y);
        at = Math.max(at, b);
      }
      if (at < end) line(at, y, end, y);
    }
  }
  return path;
}
