// Messages, and the dialogs for projects, token, download and help.

import { get, save } from "./api.js";
import { state, byId, projectPath, imagePath } from "./store.js";

/** `1 step`, `2 steps`: the name of a single one takes an s. */
export const counted = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;

/** Tells the user something; a note goes away by itself. */
export function say(text, note = false) {
  const shown = [...byId("messages").children].find((one) => one.firstChild.textContent === text);
  shown?.remove();
  const message = document.createElement("div");
  message.className = note ? "note" : "";
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.textContent = "\u00d7";
  close.setAttribute("aria-label", "Close this message");
  close.addEventListener("click", () => message.remove());
  message.append(words, close);
  byId("messages").append(message);
  if (note) setTimeout(() => message.remove(), 7000);
}

/** Asks for the token of the server. */
export function askForToken() {
  const dialog = byId("d-token");
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      dialog.close();
      done(byId("token").value.trim());
    };
    dialog.oncancel = (event) => event.preventDefault();
  });
}

/** Lets the user choose or name a project; calls `open(name)`. Without a project the dialog stays. */
export async function chooseProject(open) {
  const dialog = byId("d-project");
  const { projects } = await get("state");
  byId("projects").replaceChildren(...projects.map((name) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.innerHTML = "<b></b>";
    button.firstChild.textContent = name;
    button.addEventListener("click", () => {
      dialog.close();
      open(name);
    });
    item.append(button);
    return item;
  }));
  const free = (name, number = 2) => (projects.includes(name) ? free(`My cells ${number}`, number + 1) : name);
  byId("project-name").value = free("My cells");
  byId("new-project").onsubmit = (event) => {
    event.preventDefault();
    const name = byId("project-name").value.trim();
    if (!name) return;
    dialog.close();
    open(name);
  };
  dialog.oncancel = (event) => {
    if (!state.project) event.preventDefault();
  };
  if (!dialog.open) dialog.showModal();
}

export function startDownload() {
  for (const button of document.querySelectorAll("[data-form]")) {
    button.addEventListener("click", async () => {
      const { form } = button.dataset;
      try {
        await save(form === "model" ? `${projectPath()}/model` : `${imagePath()}/results?form=${form}`);
        byId("d-download").close();
      } catch (error) {
        byId("d-download").close();
        say(error.message);
      }
    });
  }
}

export function showDownload() {
  if (state.image) byId("d-download").showModal();
}

/** Tells how to get what outlines by click need; addresses become links. */
export function showWeights(text) {
  const parts = text.split(/(https?:[^\s,;]*[^\s,;.:])/);
  byId("weights").replaceChildren(...parts.map((part, index) => {
    if (index % 2 === 0) return part;
    return Object.assign(document.createElement("a"), { href: part, textContent: part, target: "_blank", rel: "noreferrer" });
  }));
  byId("d-sam").showModal();
}

export function showHelp() {
  byId("d-help").showModal();
}
