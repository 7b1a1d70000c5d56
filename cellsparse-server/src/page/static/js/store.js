// What the page knows, and who wants to be told when it changes.

export const state = {
  project: null, // its name
  settings: {},
  algorithms: [],
  images: [],
  image: null, // the one that is shown
  status: {},
  losses: [],
  model: null,
  drawn: { cells: 0, background: 0, undo: false, redo: false },
  objects: [],
  notes: [],
  suggestions: [],
  chosen: null, // id of the chosen object
  tool: "polygon",
  size: 12,
  redrawing: false,
  sam: null, // which network outlines by click, or how to get one
  adding: "", // which file is on its way
  clicking: "", // what the tool that outlines by click does
  folder: null,
  connected: true,
};

const listeners = new Map();

/** Calls `listener` after each change of one of the things. */
export function on(names, listener) {
  for (const name of names.split(" ")) {
    if (!listeners.has(name)) listeners.set(name, new Set());
    listeners.get(name).add(listener);
  }
}

/** Changes things and tells who listens, each listener once. */
export function set(changes) {
  Object.assign(state, changes);
  const called = new Set();
  for (const name of Object.keys(changes)) {
    for (const listener of listeners.get(name) || []) called.add(listener);
  }
  for (const listener of called) listener();
}

export const byId = (id) => document.getElementById(id);

/** Makes the content of an element anew; the focus stays at its place. */
export function replace(parent, children) {
  const places = () => [...parent.querySelectorAll("button, input, select, tr")];
  const at = places().indexOf(document.activeElement);
  parent.replaceChildren(...children);
  if (at >= 0) places()[Math.min(at, places().length - 1)]?.focus({ preventScroll: true });
}

/** The path of the project, or of the shown image, in the interface. */
export const projectPath = () => `projects/${encodeURIComponent(state.project)}`;
export const imagePath = () => `${projectPath()}/images/${state.image.id}`;
