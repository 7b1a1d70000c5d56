// The visible part of the image: moving, zooming, and the order in which layers are drawn.

const LARGEST = 64;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    // Screen position = (image position - origin) * scale, in CSS pixels.
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.size = null; // rows, columns of the image
    this.layers = [];
    this.changed = () => {};
    this.pending = false;
    this.fitted = false; // the image is shown whole, and stays so when the window changes
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      if (this.fitted && this.size) this.fit(...this.size);
      else this.draw();
    }
  }

  get width() {
    return this.canvas.parentElement.clientWidth;
  }

  get height() {
    return this.canvas.parentElement.clientHeight;
  }

  /** Shows an image of that size whole. */
  fit(rows, columns) {
    this.size = [rows, columns];
    this.scale = Math.min(LARGEST, (this.width - 40) / columns, (this.height - 40) / rows);
    this.x = columns / 2 - this.width / 2 / this.scale;
    this.y = rows / 2 - this.height / 2 / this.scale;
    this.moved();
    this.fitted = true;
  }

  /** Zooms by a factor with a point of the screen fixed. */
  zoom(factor, sx = this.width / 2, sy = this.height / 2) {
    if (!this.size) return;
    const [x, y] = this.toImage(sx, sy);
    const least = Math.min(0.5, 0.25 * Math.min(this.width / this.size[1], this.height / this.size[0]));
    this.scale = Math.max(least, Math.min(LARGEST, this.scale * factor));
    this.x = x - sx / this.scale;
    this.y = y - sy / this.scale;
    this.moved();
  }

  pan(dx, dy) {
    if (!this.size) return;
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.moved();
  }

  /** Brings a box of the image into view, larger if it is small. */
  show([top, left, bottom, right]) {
    const side = Math.max(bottom - top, right - left, 4);
    const wanted = Math.min(this.width, this.height) / (side * 5);
    if (this.scale < wanted / 2.5) this.scale = Math.min(wanted, 12);
    this.x = (left + right) / 2 - this.width / 2 / this.scale;
    this.y = (top + bottom) / 2 - this.height / 2 / this.scale;
    this.moved();
  }

  wheel(event) {
    event.preventDefault();
    const lines = [1, 30, 300][event.deltaMode];
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * lines * 0.0016), event.clientX - box.left, event.clientY - box.top);
  }

  toImage(sx, sy) {
    return [sx / this.scale + this.x, sy / this.scale + this.y];
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale, (y - this.y) * this.scale];
  }

  /** The visible part of the image: row, column, row end, column end. */
  visible() {
    if (!this.size) return [0, 0, 0, 0];
    const [rows, columns] = this.size;
    const clamp = (value, most) => Math.max(0, Math.min(most, value));
    return [
      clamp(Math.floor(this.y), rows), clamp(Math.floor(this.x), columns),
      clamp(Math.ceil(this.y + this.height / this.scale), rows), clamp(Math.ceil(this.x + this.width / this.scale), columns),
    ];
  }

  moved() {
    this.fitted = false;
    this.changed();
    this.draw();
  }

  /** Draws with the next frame. */
  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { context, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.size) return;
    const scale = this.scale * ratio;
    // Whole pixels of the screen, so that pixels of the image are equally large and do not swim.
    const [dx, dy] = [Math.round(-this.x * scale), Math.round(-this.y * scale)];
    for (const layer of this.layers) {
      context.setTransform(scale, 0, 0, scale, dx, dy);
      context.imageSmoothingEnabled = scale < 1;
      layer.draw(context, this.visible(), 1 / this.scale, this);
    }
  }
}
