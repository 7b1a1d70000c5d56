// Labels over the image: filled softly, with outlines along the edges of the pixels that stay sharp at every zoom.

const SIDE = 256;

/** A label image that is drawn in tiles, each made anew when it changed. */
export class LabelLayer {
  /** `fill(label)` gives [r, g, b, a] or null; `outlined(label)` whether its border is drawn. */
  constructor({ fill, outlined, stroke, width }) {
    Object.assign(this, { fill, outlined, stroke, width });
    this.visible = true;
    this.labels = null;
  }

  reset(rows, columns, value) {
    this.rows = rows;
    this.columns = columns;
    this.labels = new Int32Array(rows * columns).fill(value);
    this.tiles = new Map();
  }

  /** Takes runs of labels (label, count, ...) of a box. */
  put([top, left, bottom, right], runs) {
    const width = right - left;
    let [row, column] = [top, left];
    for (let index = 0; index < runs.length; index += 2) {
      let count = runs[index + 1];
      while (count > 0) {
        const part = Math.min(count, left + width - column);
        const at = row * this.columns + column;
        this.labels.fill(runs[index], at, at + part);
        count -= part;
        column += part;
        if (column === right) {
          column = left;
          row += 1;
        }
      }
    }
    // Borders of a tile look at the next pixels too.
    for (let y = Math.floor((top - 1) / SIDE); y * SIDE <= bottom; y += 1) {
      for (let x = Math.floor((left - 1) / SIDE); x * SIDE <= right; x += 1) this.tiles.delete(`${y}/${x}`);
    }
  }

  at(x, y) {
    const inside = this.labels && x >= 0 && y >= 0 && x < this.columns && y < this.rows;
    return inside ? this.labels[Math.floor(y) * this.columns + Math.floor(x)] : null;
  }

  draw(context, [top, left, bottom, right], pixel) {
    if (!this.visible || !this.labels) return;
    for (let row = Math.floor(top / SIDE); row * SIDE < bottom; row += 1) {
      for (let column = Math.floor(left / SIDE); column * SIDE < right; column += 1) {
        const tile = this.tile(row, column);
        if (tile.canvas) context.drawImage(tile.canvas, column * SIDE, row * SIDE);
        context.lineWidth = this.width * pixel;
        context.lineJoin = "round";
        context.strokeStyle = this.stroke;
        if (tile.path) context.stroke(tile.path);
      }
    }
  }

  tile(row, column) {
    const key = `${row}/${column}`;
    if (!this.tiles.has(key)) this.tiles.set(key, this.make(row * SIDE, column * SIDE));
    return this.tiles.get(key);
  }

  make(top, left) {
    const [bottom, right] = [Math.min(top + SIDE, this.rows), Math.min(left + SIDE, this.columns)];
    const [width, height] = [right - left, bottom - top];
    const image = new ImageData(width, height);
    let some = false;
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const colour = this.fill(this.labels[(top + y) * this.columns + left + x], left + x, top + y);
        if (!colour) continue;
        some = true;
        image.data.set(colour, 4 * (y * width + x));
      }
    }
    let canvas = null;
    if (some) {
      canvas = document.createElement("canvas");
      canvas.width = width;
      canvas.height = height;
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
    const path = some ? edges(this, (label) => this.outlined(label), [top, left, bottom, right]) : null;
    return { canvas, path };
  }

  /** The outline of one object, whose pixels lie in a box. */
  outline(id, [top, left, bottom, right]) {
    // One pixel more, whose upper and left edges close the outline.
    const box = [top, left, Math.min(bottom + 1, this.rows), Math.min(right + 1, this.columns)];
    return edges(this, (label) => label === id, box);
  }
}

/** The edges of pixels in a box between labels that differ, one of which is wanted. */
function edges(layer, wanted, [top, left, bottom, right]) {
  const path = new Path2D();
  const { labels, rows, columns } = layer;
  const label = (y, x) => (y < 0 || x < 0 || y >= rows || x >= columns ? -1 : labels[y * columns + x]);
  const differs = (a, b) => a !== b && (wanted(a) || wanted(b));
  for (let y = top; y <= bottom; y += 1) {
    let begun = -1;
    for (let x = left; x <= right; x += 1) {
      // The line above the pixel; that of the last row belongs to the next tile unless it is the border.
      const edge = x < right && (y < bottom || bottom === rows) && differs(label(y - 1, x), label(y, x));
      if (edge && begun < 0) begun = x;
      if (!edge && begun >= 0) {
        path.moveTo(begun, y);
        path.lineTo(x, y);
        begun = -1;
      }
    }
  }
  for (let x = left; x <= right; x += 1) {
    let begun = -1;
    for (let y = top; y <= bottom; y += 1) {
      const edge = y < bottom && (x < right || right === columns) && differs(label(y, x - 1), label(y, x));
      if (edge && begun < 0) begun = y;
      if (!edge && begun >= 0) {
        path.moveTo(x, begun);
        path.lineTo(x, y);
        begun = -1;
      }
    }
  }
  return path;
}

export const foundLayer = () => new LabelLayer({
  fill: (label) => (label > 0 ? [69, 196, 176, 34] : null),
  outlined: (label) => label > 0, stroke: "#45c4b0", width: 1.6,
});

export const drawnLayer = () => new LabelLayer({
  // Background is hatched, so that it is told from cells without colours too.
  fill: (label, x, y) => {
    if (label > 0) return [240, 176, 63, 66];
    return label === 0 ? [109, 155, 245, (x + y) % 4 < 2 ? 120 : 60] : null;
  },
  outlined: (label) => label > 0, stroke: "#f0b03f", width: 2,
});
