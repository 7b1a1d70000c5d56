// The objects of the image: the table, the chosen one, corrections, suggestions where to draw next.

import { get, post } from "./api.js";
import { state, set, on, byId, imagePath } from "./store.js";
import { counted, say } from "./dialogs.js";

const MOST = 400;
let sort = { by: "id", down: false };
let place = 0; // in the suggestions
let hooks = {};

/** `jump(box)` shows a part of the image; `took(answer)` takes over what was drawn; `idAt(x, y)` is the object at a point. */
export function start(given) {
  hooks = given;
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const by = button.dataset.sort;
      sort = { by, down: sort.by === by ? !sort.down : false };
      table();
    });
  }
  byId("objects").tBodies[0].addEventListener("keydown", walk);
  byId("suggest").addEventListener("click", next);
  byId("accept").addEventListener("click", () => correct("accept"));
  byId("delete").addEventListener("click", () => correct("delete"));
  byId("redraw").addEventListener("click", redraw);
  on("objects", () => {
    if (state.chosen && !state.objects.some((one) => one.id === state.chosen)) set({ chosen: null });
    table();
    actions();
  });
  on("chosen", () => {
    for (const line of rows()) line.setAttribute("aria-selected", String(Number(line.dataset.id) === state.chosen));
    reach();
    reveal();
    actions();
  });
}

const rows = () => [...byId("objects").tBodies[0].rows];

/** One row can be reached by the Tab key, the chosen one if there is one; arrows lead to the others. */
function reach() {
  const all = rows();
  const isChosen = (line) => Number(line.dataset.id) === state.chosen;
  const one = all.find(isChosen) || all.find((line) => line === document.activeElement) || all[0];
  for (const line of all) line.tabIndex = line === one ? 0 : -1;
}

/** Scrolls the table, and not the panel around it, to the chosen object. */
function reveal() {
  const line = rows().find((one) => Number(one.dataset.id) === state.chosen);
  if (!line) return;
  const box = line.closest(".scroll");
  const [at, around] = [line.getBoundingClientRect(), box.getBoundingClientRect()];
  const head = box.querySelector("thead").offsetHeight;
  if (at.top < around.top + head) box.scrollTop -= around.top + head - at.top;
  else if (at.bottom > around.bottom) box.scrollTop += at.bottom - around.bottom + 4;
}

/** Arrows choose the next object, as a click does; the first one is that where the focus is. */
function walk(event) {
  const all = rows();
  const at = all.indexOf(event.target.closest("tr"));
  const here = Number(all[at]?.dataset.id) === state.chosen;
  const to = {
    ArrowDown: here ? at + 1 : at, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: all.length - 1, Enter: at, " ": at,
  }[event.key];
  if (to === undefined || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("button")) return;
  event.preventDefault();
  event.stopPropagation();
  const line = all[Math.max(0, Math.min(all.length - 1, to))];
  line.focus();
  line.click();
}

export const chosen = () => state.objects.find((one) => one.id === state.chosen);

function actions() {
  const object = chosen();
  byId("actions").hidden = !object;
  if (!object) return;
  byId("chosen").textContent = words(object);
  byId("accept").disabled = object.drawn;
  byId("delete").textContent = object.drawn ? "Erase" : "Delete";
}

function words({ id, area, drawn, probability }) {
  return `Object ${id}, ${counted(area, "pixel")}, ${drawn ? "drawn" : `probability ${probability.toFixed(2)}`}`;
}

function table() {
  for (const head of document.querySelectorAll("#objects th")) {
    const by = head.querySelector("[data-sort]")?.dataset.sort;
    if (by === sort.by) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const sign = sort.down ? -1 : 1;
  const sorted = [...state.objects].sort((a, b) => sign * (a[sort.by] - b[sort.by]) || a.id - b.id);
  const drawn = sorted.filter((one) => one.drawn).length;
  byId("count").textContent = sorted.length ? `${sorted.length}, ${drawn} of them drawn` : "";
  const all = rows();
  const at = all.indexOf(document.activeElement);
  byId("objects").tBodies[0].replaceChildren(...sorted.slice(0, MOST).map(row));
  if (at >= 0) {
    // Who goes through the table goes on where they were, though it was made anew.
    const id = all[at].dataset.id;
    const line = rows().find((one) => one.dataset.id === id) || rows()[Math.min(at, rows().length - 1)];
    line?.focus({ preventScroll: true });
  }
  reach();
}

function row(object) {
  const line = document.createElement("tr");
  line.tabIndex = -1;
  line.setAttribute("aria-label", words(object));
  line.dataset.id = object.id;
  line.dataset.x = object.x;
  line.dataset.y = object.y;
  line.setAttribute("aria-selected", String(object.id === state.chosen));
  const cells = [String(object.id), String(object.area), object.drawn ? "drawn" : object.probability.toFixed(2)];
  for (const text of cells) line.insertCell().textContent = text;
  const dot = document.createElement("i");
  dot.className = `dot ${object.drawn ? "drawn" : "found"}`;
  line.cells[0].prepend(dot);
  line.addEventListener("click", () => {
    set({ chosen: object.id });
    hooks.jump(object.box);
  });
  const correctOne = (kind, text, title) => {
    const button = document.createElement("button");
    button.className = "mini";
    button.tabIndex = -1; // keys do the same to the chosen object
    button.textContent = text;
    button.title = title;
    button.setAttribute("aria-label", `${title}: object ${object.id}`);
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      correct(kind, object);
    });
    return button;
  };
  const last = line.insertCell();
  if (!object.drawn) last.append(correctOne("accept", "\u2713", "Accept"));
  last.append(correctOne("delete", "\u00d7", object.drawn ? "Erase" : "Delete"));
  return line;
}

/** Accepts or deletes an object: the given one, or that at a point of the image, or the chosen one. */
export async function correct(kind, object = null, point = null) {
  const one = object || (point && state.objects.find((each) => each.id === hooks.idAt(...point))) || chosen();
  if (!one) return;
  if (kind === "accept" && one.drawn) return;
  try {
    const answer = await post(`${imagePath()}/correct`, { kind, at: inside(one) });
    set({ chosen: null });
    await hooks.took(answer);
  } catch (error) {
    say(error.message);
  }
}

/** A point of an object: its middle may lie beside it. */
function inside(object) {
  if (hooks.idAt(object.x, object.y) === object.id) return [object.x, object.y];
  const [top, left, bottom, right] = object.box;
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) if (hooks.idAt(x, y) === object.id) return [x + 0.5, y + 0.5];
  }
  return [object.x, object.y];
}

/** The next outline gives the object another shape. */
export function redraw() {
  if (chosen()) set({ tool: "polygon", redrawing: true });
}

export async function redrawn(shape) {
  const object = chosen();
  set({ redrawing: false });
  if (!object) return;
  const answer = await post(`${imagePath()}/correct`, { kind: "redraw", at: inside(object), shape });
  set({ chosen: null });
  await hooks.took(answer);
}

/** Shows the place where the model is least sure, then the next one. */
export async function next() {
  if (!state.image) return;
  try {
    if (!state.suggestions.length) {
      place = 0;
      set({ suggestions: await get(`${imagePath()}/suggestions`) });
      if (!state.suggestions.length) {
        say("The model is of one mind about this image. Look at another one, or draw what it misses.", true);
        return;
      }
    }
    const one = state.suggestions[place % state.suggestions.length];
    place += 1;
    hooks.jump(one.box);
    const id = hooks.idAt(one.x, one.y);
    set({ chosen: one.why === "object" && id > 0 ? id : null });
    if (one.why === "missed") say("Perhaps a cell is missed here. Outline it if there is one, else stroke background over it.", true);
  } catch (error) {
    say(error.message);
  }
}
