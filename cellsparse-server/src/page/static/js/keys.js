// Keyboard shortcuts, and their list in the help.

import { byId } from "./store.js";

/**
 * `[keys, what they do, action]`; keys are written as people read them. `silent` ones are not listed by themselves;
 * `held(down)` is told of the space bar.
 */
export function start(shortcuts, held, silent) {
  const actions = new Map();
  for (const [keys, , action] of [...shortcuts, ...silent]) {
    if (action) for (const key of keys.split(" or ")) actions.set(key, action);
  }
  byId("keys").replaceChildren(...shortcuts.flatMap(([keys, words]) => {
    const term = document.createElement("dt");
    keys.split(" or ").forEach((key, index) => {
      if (index) term.append(" ");
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
    });
    return [term, Object.assign(document.createElement("dd"), { textContent: words })];
  }));
  // A button that was clicked keeps the focus; its keys are meant for the image then, and for the button after the Tab key.
  let clicked = false;
  window.addEventListener("pointerdown", () => { clicked = true; }, true);
  const owned = ({ target }) => target.closest("a, input") || (!clicked && target.closest("button"));
  window.addEventListener("keydown", (event) => {
    if (event.key === "Tab") clicked = false;
    // Behind a dialog nothing happens, wherever the focus is.
    if (document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]):not([type=range]), select")) return;
    if (event.target.closest("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    if (event.key === " " && !owned(event)) {
      held(true);
      event.preventDefault();
      return;
    }
    const action = actions.get(name(event));
    if (!action) return;
    if (event.key === "Enter" && owned(event)) return;
    event.preventDefault();
    action();
  });
  window.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    held(false);
    if (!document.querySelector("dialog[open]") && !owned(event)) event.preventDefault();
  });
  window.addEventListener("blur", () => held(false));
}

function name(event) {
  if (event.altKey) return "";
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key.replace("Escape", "Esc").replace("Delete", "Del");
  const shift = event.shiftKey && /^[A-Z]$/.test(key) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + key;
}
