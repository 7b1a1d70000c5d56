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
  window.addEventListener("keydown", (event) => {
    // Behind a dialog nothing happens, wherever the focus is.
    if (document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]):not([type=range]), select")) return;
    if (event.target.closest("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    if (event.key === " " && !event.target.closest("button, summary, input")) {
      held(true);
      event.preventDefault();
      return;
    }
    const action = actions.get(name(event));
    if (!action) return;
    // Enter and the like on a button are the button's.
    if (event.key === "Enter" && event.target.closest("button")) return;
    event.preventDefault();
    action();
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") held(false);
  });
  window.addEventListener("blur", () => held(false));
}

function name(event) {
  if (event.altKey) return "";
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key.replace("Escape", "Esc").replace("Delete", "Del");
  const shift = event.shiftKey && /^[A-Z]$/.test(key) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + key;
}
