// Drawing with the mouse, a pen or a finger: strokes, outlines, and what shows under the pointer.

import { drawBox } from "./clicks.js";
import { state, set, on, byId } from "./store.js";

const COLOURS = { cell: "#f0b03f", polygon: "#f0b03f", background: "#6d9bf5", eraser: "#ffffff" };

export class Tools {
  /**
   * `paint(shape, ink)` draws, `redraw(shape)` gives the chosen object another shape, `choose(x, y)` chooses an object, `clicks`
   * outlines by click.
   */
  constructor(view, clicks, { paint, redraw, choose, cellAt }) {
    Object.assign(this, { view, clicks, paint, redraw, choose, cellAt });
    this.points = null; // of the shape that is being drawn
    this.waiting = []; // shapes on their way to the server, so that nothing flickers
    this.corners = false; // the outline is made corner by corner
    this.at = null; // where the pointer is, on the screen: below it the image moves
    this.panning = null;
    this.space = false;
    this.fingers = new Map();
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.cancelled(event));
    canvas.addEventListener("pointerleave", () => this.left());
    canvas.addEventListener("dblclick", () => this.corners && this.close());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    // Else the middle button, which moves the image, begins to scroll by itself.
    canvas.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault());
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.take(button.dataset.tool));
    }
    byId("size").addEventListener("change", () => this.resize(Number(byId("size").value)));
    this.resize(state.size);
    on("tool redrawing", () => this.shown());
    this.shown();
  }

  /** Where the pointer is in the image, or null. */
  get pointer() {
    return this.at && this.view.toImage(...this.at);
  }

  /** What is chosen counts until the pointer moves again. */
  forgetPointer() {
    this.at = null;
    this.moved?.(null);
  }

  take(tool) {
    this.cancel();
    if (tool === "click") this.clicks.take();
    else set({ tool });
  }

  resize(size) {
    set({ size: Math.max(1, Math.min(200, Math.round(size) || 1)) });
    byId("size").value = state.size;
    this.view.draw();
  }

  shown() {
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === state.tool));
    }
    const cursors = { select: "default", pan: "grab", polygon: "crosshair", click: "crosshair" };
    this.view.canvas.style.cursor = cursors[state.tool] || "none";
    this.view.draw();
  }

  place(event) {
    const box = this.view.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (!state.image) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    this.view.canvas.parentElement.focus({ preventScroll: true });
    const at = this.place(event);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, at);
      if (this.fingers.size === 2) {
        this.points = null;
        this.corners = false;
        return;
      }
    }
    const [x, y] = this.view.toImage(...at);
    const beside = state.tool === "click" && event.button === 2;
    if (event.button === 1 || (event.button === 2 && !beside) || this.space || state.tool === "pan") {
      this.panning = at;
      this.view.canvas.style.cursor = "grabbing";
    } else if (event.button !== 0 && !beside) {
      return;
    } else if (state.tool === "select") {
      this.choose(x, y);
    } else if (state.tool === "polygon" && this.corners) {
      const [fx, fy] = this.view.toScreen(...this.points[0]);
      if (this.points.length > 2 && Math.hypot(fx - at[0], fy - at[1]) < 9) this.close();
      else this.points.push([x, y]);
    } else {
      this.points = [[x, y]];
      this.apart = event.shiftKey;
      this.beside = beside || event.shiftKey;
      this.start = at;
      this.far = false;
    }
    this.view.draw();
  }

  move(event) {
    const at = this.place(event);
    if (this.fingers.has(event.pointerId)) {
      const before = this.fingers.get(event.pointerId);
      this.fingers.set(event.pointerId, at);
      if (this.fingers.size === 2) return this.pinch(event.pointerId, before, at);
    }
    this.at = at;
    if (this.panning) {
      this.view.pan(at[0] - this.panning[0], at[1] - this.panning[1]);
      this.panning = at;
      return undefined;
    }
    if (this.points && !this.corners) {
      // A quick hand gives several places at once.
      const events = event.getCoalescedEvents?.() || [];
      for (const one of events.length ? events : [event]) {
        const place = this.place(one);
        const point = this.view.toImage(...place);
        const last = this.points[this.points.length - 1];
        if (Math.hypot(point[0] - last[0], point[1] - last[1]) * this.view.scale > 1.5) this.points.push(point);
        this.far ||= Math.hypot(place[0] - this.start[0], place[1] - this.start[1]) > 6;
      }
    }
    this.view.draw();
    this.moved?.(this.pointer);
    return undefined;
  }

  pinch(id, before, at) {
    const [other] = [...this.fingers].filter(([one]) => one !== id).map(([, place]) => place);
    const length = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
    this.view.zoom(length(at) / length(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    this.view.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    if (this.panning) {
      this.panning = null;
      this.shown();
      return;
    }
    if (!this.points || this.corners) return;
    if (state.tool === "click") {
      this.pointed();
    } else if (state.tool === "polygon") {
      if (this.far) this.close();
      else this.corners = true; // the first of several corners
    } else {
      this.stroke();
    }
    this.view.draw();
  }

  /** A click is a point of an object, a drag a box around it. */
  pointed() {
    const [first, last] = [this.points[0], this.points[this.points.length - 1]];
    this.points = null;
    if (this.far && !this.beside) this.clicks.box(first, last);
    else this.clicks.point(first, !this.beside);
  }

  stroke() {
    const shape = { shape: "stroke", points: this.points, radius: state.size / 2 };
    const ink = { ink: state.tool };
    if (state.tool === "cell") ink.id = this.apart ? null : this.cellAt(...this.points[0]);
    this.points = null;
    this.send(shape, ink);
  }

  /** Ends the outline. */
  close() {
    const points = this.points || [];
    this.points = null;
    this.corners = false;
    const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
    const tiny = Math.max(...xs) - Math.min(...xs) < 1 || Math.max(...ys) - Math.min(...ys) < 1;
    if (points.length > 2 && !tiny) this.send({ shape: "polygon", points }, { ink: "cell" });
    this.view.draw();
  }

  async send(shape, ink) {
    const shown = { shape, ink };
    this.waiting.push(shown);
    try {
      if (state.redrawing && shape.shape === "polygon") await this.redraw(shape);
      else await this.paint(shape, ink);
    } finally {
      this.waiting = this.waiting.filter((one) => one !== shown);
      this.view.draw();
    }
  }

  cancelled(event) {
    this.fingers.delete(event.pointerId);
    this.panning = null;
    if (!this.corners) this.points = null;
    this.view.draw();
  }

  left() {
    this.forgetPointer();
    this.view.draw();
  }

  /** Gives up what is being drawn; whether there was something. */
  cancel() {
    const some = this.points !== null || state.redrawing;
    this.points = null;
    this.corners = false;
    if (state.redrawing) set({ redrawing: false });
    this.view.draw();
    return some;
  }

  draw(context, _, pixel) {
    for (const { shape, ink } of this.waiting) this.drawShape(context, shape, COLOURS[ink.ink], 0.4, pixel);
    const colour = COLOURS[state.tool];
    if (this.points && state.tool === "polygon") {
      context.beginPath();
      for (const [x, y] of this.points) context.lineTo(x, y);
      if (this.corners && this.pointer) context.lineTo(...this.pointer);
      context.lineWidth = 2 * pixel;
      context.strokeStyle = colour;
      context.stroke();
      if (this.corners) for (const point of this.points) dot(context, point, 3.5 * pixel, colour);
    } else if (this.points && state.tool === "click") {
      const last = this.points[this.points.length - 1];
      if (this.far && !this.beside) drawBox(context, [...this.points[0], ...last], pixel);
    } else if (this.points) {
      this.drawShape(context, { shape: "stroke", points: this.points, radius: state.size / 2 }, colour, 0.5, pixel);
    }
    if (this.pointer && ["cell", "background", "eraser"].includes(state.tool)) {
      context.beginPath();
      context.arc(...this.pointer, state.size / 2, 0, 2 * Math.PI);
      context.lineWidth = 3 * pixel;
      context.strokeStyle = "rgb(0 0 0 / 60%)";
      context.stroke();
      context.lineWidth = 1.5 * pixel;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  drawShape(context, shape, colour, alpha, pixel) {
    context.save();
    context.globalAlpha = alpha;
    context.beginPath();
    for (const [x, y] of shape.points) context.lineTo(x, y);
    if (shape.shape === "polygon") {
      context.fillStyle = colour;
      context.fill();
    } else if (shape.points.length === 1) {
      dot(context, shape.points[0], Math.max(shape.radius, pixel), colour);
    } else {
      context.lineWidth = Math.max(2 * shape.radius, pixel);
      context.lineCap = "round";
      context.lineJoin = "round";
      context.strokeStyle = colour;
      context.stroke();
    }
    context.restore();
  }
}

function dot(context, [x, y], radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}
