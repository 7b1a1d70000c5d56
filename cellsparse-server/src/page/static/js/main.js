// The page: opens the project, and joins view, tools, layers, learning and objects.

import { get, post, listen, onToken } from "./api.js";
import { state, set, on, byId, projectPath, imagePath } from "./store.js";
import { View } from "./view.js";
import { Tiles } from "./tiles.js";
import { foundLayer, drawnLayer } from "./layers.js";
import { Tools } from "./tools.js";
import { Clicks } from "./clicks.js";
import * as contrast from "./contrast.js";
import * as images from "./images.js";
import * as learning from "./learning.js";
import * as objects from "./objects.js";
import * as keys from "./keys.js";
import { say, settle, askForToken, chooseProject, startDownload, showDownload, showHelp } from "./dialogs.js";

const view = new View(byId("canvas"));
const tiles = new Tiles(view);
const [found, drawn] = [foundLayer(), drawnLayer()];
let stream = null;
let lookTimer = 0;
let reading = null; // objects that are being read
let again = false; // and are to be read once more

tiles.failed = (error) => say(`The image cannot be shown. ${error.message}`);

const clicks = new Clicks(view, { accept: (pixels) => edit({ kind: "accept", pixels }) });
const tools = new Tools(view, clicks, {
  paint: (shape, ink) => edit({ kind: "paint", shape, ink }),
  redraw: (shape) => objects.redrawn(shape).catch((error) => say(error.message)),
  choose: (x, y) => set({ chosen: found.at(x, y) > 0 ? found.at(x, y) : null }),
  cellAt: (x, y) => (drawn.at(x, y) > 0 ? drawn.at(x, y) : null),
});

/** The chosen object, and where the model is of two minds. */
const marks = {
  draw(context, _, pixel) {
    const over = state.tool === "select" && tools.pointer ? found.at(...tools.pointer) : 0;
    const hovered = over > 0 && over !== state.chosen && state.objects.find((one) => one.id === over);
    if (hovered) {
      context.lineWidth = 2.5 * pixel;
      context.strokeStyle = "#c9efe9";
      context.stroke(found.outline(hovered.id, hovered.box));
    }
    const object = objects.chosen();
    if (object && found.labels) {
      const path = found.outline(object.id, object.box);
      for (const [width, colour] of [[5, "rgb(0 0 0 / 70%)"], [2.5, "#ffffff"]]) {
        context.lineWidth = width * pixel;
        context.strokeStyle = colour;
        context.stroke(path);
      }
    }
    if (!byId("show-doubt").checked) return;
    context.strokeStyle = "#e77bd0";
    context.lineWidth = 2 * pixel;
    context.setLineDash([5 * pixel, 4 * pixel]);
    for (const { box: [top, left, bottom, right] } of state.suggestions) {
      const gap = 4 * pixel;
      context.strokeRect(left - gap, top - gap, right - left + 2 * gap, bottom - top + 2 * gap);
    }
    context.setLineDash([]);
  },
};
view.layers = [tiles, found, drawn, clicks, marks, tools];

async function edit(json) {
  if (!state.image) return;
  try {
    await took(await post(`${imagePath()}/edit`, json));
  } catch (error) {
    say(`That was not stored. ${error.message}`);
  }
}

/** Takes over what the server says is drawn now. */
async function took(answer) {
  drawn.put(answer.box, answer.runs);
  view.draw();
  set({ drawn: answer });
  await readObjects();
}

/** Reads the objects of the image; while they are on their way, further calls lead to one more reading. */
async function readObjects() {
  if (reading) {
    again = true;
    return reading;
  }
  reading = (async () => {
    do {
      again = false;
      const { image } = state;
      if (!image) return;
      try {
        const answer = await get(`${imagePath()}/objects`);
        if (image !== state.image) continue;
        found.put([0, 0, image.rows, image.columns], answer.runs);
        const doubts = answer.version === state.version ? {} : { suggestions: [] };
        set({ objects: answer.objects, notes: answer.notes, version: answer.version, ...doubts });
        byId("stage").dataset.version = answer.version;
        learning.preview();
        view.draw();
      } catch (error) {
        say(error.message);
      }
    } while (again);
  })();
  try {
    await reading;
  } finally {
    reading = null;
  }
}

/** Shows an image of the project, or none. */
async function show(id) {
  const image = state.images.find((one) => one.id === id) || null;
  tools.cancel();
  // What was drawn on the image before is not on this one.
  const none = { cells: image?.cells ?? 0, background: image?.background ?? 0, undo: false, redo: false };
  set({ image, drawn: none, objects: [], suggestions: [], chosen: null, version: null });
  if (!image) {
    tiles.close();
    view.size = null;
    view.draw();
    return;
  }
  localStorage.setItem(`cellsparse-image/${state.project}`, String(image.id));
  found.reset(image.rows, image.columns, 0);
  drawn.reset(image.rows, image.columns, -1);
  tiles.open(imagePath(), image.rows, image.columns);
  view.fit(image.rows, image.columns);
  look();
  try {
    const [answer] = await Promise.all([get(`${imagePath()}/drawn`), contrast.open(tiles)]);
    if (image !== state.image) return;
    drawn.put(answer.box, answer.runs);
    set({ drawn: answer });
    clicks.look();
    await readObjects();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

/** Tells the server what is looked at, which previews are of. */
function look() {
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => {
    if (!state.image) return;
    post(`${projectPath()}/look`, { image: state.image.id, view: view.visible() }).catch(() => {});
  }, 150);
}

const heard = {
  status: (status) => {
    const newer = status.version !== state.version;
    set({ status });
    if (newer && state.image) readObjects();
  },
  step: ({ loss }) => set({ losses: [...state.losses, loss].slice(-600) }),
  edited: async ({ image }) => {
    // By another page, perhaps; what this one drew is there already.
    if (image !== state.image?.id) return;
    const answer = await get(`${imagePath()}/drawn`).catch(() => null);
    if (answer && answer.version !== state.drawn.version) {
      drawn.put(answer.box, answer.runs);
      set({ drawn: answer });
      readObjects();
    }
  },
  images: () => images.refresh().catch(() => {}),
  failed: ({ detail }) => say(`Learning ended. ${detail}`),
  connected: async () => {
    if (state.connected) return;
    // The server was started again, perhaps: what it has counts.
    set({ connected: true, version: null });
    await images.refresh().catch(() => {});
    look();
    await heard.edited({ image: state.image?.id });
  },
  disconnected: () => set({ connected: false }),
};

async function open(name) {
  let project;
  try {
    const { folder, sam } = await get("state");
    project = await post(`projects/${encodeURIComponent(name)}`);
    stream?.abort();
    stream = new AbortController();
    set({
      project: project.name, settings: project.settings, algorithms: project.algorithms, images: project.images,
      status: project.status, losses: project.losses, model: project.model, folder, sam, image: null,
    });
  } catch (error) {
    say(error.message);
    chooseProject(open).catch((other) => say(other.message));
    return;
  }
  project.notes.forEach((note) => say(note, true));
  byId("project").textContent = project.name;
  document.title = `${project.name} - cellsparse`;
  history.replaceState(null, "", `#project=${encodeURIComponent(project.name)}`);
  listen(project.name, (event, data) => heard[event]?.(data), stream.signal);
  const last = Number(localStorage.getItem(`cellsparse-image/${project.name}`));
  const first = project.images.find((image) => image.id === last) || project.images[0];
  await show(first?.id ?? null);
}

function zoomed() {
  byId("stage").dataset.view = [view.x, view.y, view.scale].join(",");
  byId("zoom").textContent = `${Math.round(view.scale * 100)} %`;
  look();
}

function under(point) {
  const text = point && view.size && found.at(...point) !== null
    ? `x ${Math.floor(point[0])}, y ${Math.floor(point[1])}: ${tiles.at(...point)?.map((v) => Number(v.toFixed(3))).join(", ") ?? ""}`
    : "";
  byId("where").textContent = text;
}

/** Shows a part of the image; what is chosen there is meant by the keys, and not what comes to lie under the pointer. */
function jump(box) {
  tools.forgetPointer();
  view.show(box);
}

const undo = () => edit({ kind: "undo" });
const redo = () => edit({ kind: "redo" });
const correct = (kind) => () => objects.correct(kind, null, tools.pointer);
const flip = (id) => () => byId(id).click();
const fit = () => state.image && view.fit(state.image.rows, state.image.columns);
const move = (x, y) => () => view.pan(x * view.width / 8, y * view.height / 8);
const step = (by) => () => {
  const at = state.images.findIndex((image) => image.id === state.image?.id);
  const other = state.images[(at + by + state.images.length) % state.images.length];
  if (other && other.id !== state.image?.id) show(other.id);
};

const SHORTCUTS = [
  ["P", "Outline a cell", () => tools.take("polygon")],
  ["C", "Outline a cell by click", () => tools.take("click")],
  ["B", "Brush: paint a cell (Shift: a new one)", () => tools.take("cell")],
  ["G", "Background", () => tools.take("background")],
  ["E", "Eraser", () => tools.take("eraser")],
  ["V", "Choose an object", () => tools.take("select")],
  ["H", "Move the image", () => tools.take("pan")],
  ["A", "Accept the object under the pointer", correct("accept")],
  ["X or Del", "Delete it", correct("delete")],
  ["R", "Redraw the chosen object", () => objects.redraw()],
  ["N", "Where to draw next", () => objects.next()],
  ["L", "Start or stop learning", () => learning.toggle()],
  ["D", "Download", showDownload],
  ["Ctrl+Z", "Undo", undo],
  ["Ctrl+Y or Ctrl+Shift+Z", "Redo", redo],
  ["[ or ]", "Smaller, larger brush", null],
  ["+ or -", "Zoom; also the wheel", null],
  ["0", "Whole image", fit],
  ["Space", "Held: move the image with the mouse", null],
  ["\u2190 or \u2191 or \u2192 or \u2193", "Move the image; in the table, choose", null],
  ["1 or 2 or 3", "Show found, drawn, doubts", null],
  ["PageUp or PageDown", "Image before, after", null],
  ["Enter", "Close or take the outline", () => (tools.corners ? tools.close() : clicks.accept())],
  ["Esc", "Give up the outline", () => tools.cancel() || clicks.cancel() || set({ chosen: null })],
  ["O", "Add images", flip("open")],
  ["?", "This help", showHelp],
];

function bind() {
  const pairs = {
    undo, redo, fit, download: showDownload, help: showHelp,
    "zoom-in": () => view.zoom(1.5), "zoom-out": () => view.zoom(1 / 1.5),
    project: () => chooseProject(open).catch((error) => say(error.message)),
  };
  for (const [id, action] of Object.entries(pairs)) byId(id).addEventListener("click", action);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names the project
    byId("stage").focus();
  });
  for (const [id, layer] of [["show-found", found], ["show-drawn", drawn], ["show-doubt", {}]]) {
    byId(id).checked = true; // Firefox has kept what it was before the page was loaded again
    byId(id).addEventListener("change", () => {
      layer.visible = byId(id).checked;
      view.draw();
    });
  }
  const silent = [
    ["[", "", () => tools.resize(state.size - Math.max(1, Math.round(state.size / 8)))],
    ["]", "", () => tools.resize(state.size + Math.max(1, Math.round(state.size / 8)))],
    ["+", "", () => view.zoom(1.5)], ["=", "", () => view.zoom(1.5)], ["-", "", () => view.zoom(1 / 1.5)],
    ["1", "", flip("show-found")], ["2", "", flip("show-drawn")], ["3", "", flip("show-doubt")],
    ["PageUp", "", step(-1)], ["PageDown", "", step(1)], ["Backspace", "", correct("delete")],
    ["ArrowLeft", "", move(1, 0)], ["ArrowRight", "", move(-1, 0)], ["ArrowUp", "", move(0, 1)], ["ArrowDown", "", move(0, -1)],
  ];
  keys.start(SHORTCUTS, (down) => { tools.space = down; }, silent);
  view.changed = zoomed;
  tools.moved = under;
  on("drawn", () => {
    const { cells, background, version } = state.drawn;
    Object.assign(byId("stage").dataset, { cells, background, drawn: version ?? "" });
    byId("undo").disabled = !state.drawn.undo;
    byId("redo").disabled = !state.drawn.redo;
  });
  on("image", () => {
    for (const id of ["download", "suggest", "fit", "zoom-in", "zoom-out"]) byId(id).disabled = !state.image;
  });
  on("chosen suggestions objects", () => {
    byId("stage").dataset.doubts = state.suggestions.length;
    view.draw();
  });
  document.addEventListener("close", settle, true);
  images.start(show);
  learning.start();
  objects.start({ jump, took, idAt: (x, y) => found.at(x, y) });
  startDownload();
}

onToken(askForToken);
bind();
const wanted = new URLSearchParams(location.hash.slice(1)).get("project");
if (wanted) open(wanted);
else chooseProject(open).catch((error) => say(error.message));
