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
  settle();
  if (note) setTimeout(() => message.remove(), 7000);
}

/** Messages are seen, read out and closed in front of a dialog too: what is outside of it is out of reach while it is open. */
export function settle() {
  const front = document.querySelector("#d-token[open]") || document.querySelector("dialog[open]") || document.body;
  if (byId("messages").parentElement !== front) front.append(byId("messages"));
}

function present(dialog) {
  if (!dialog.open) dialog.showModal();
  settle();
}

/** Shows a dialog until it is answered; a second Esc closes it in some browsers, whatever the first was told. */
function insist(dialog, answered) {
  dialog.oncancel = (event) => answered() || event.preventDefault();
  dialog.onclose = () => answered() || present(dialog);
  present(dialog);
}

/** Asks for the token of the server; `refused` when the last one was not right. */
export function askForToken(refused) {
  let given = null;
  byId("token-told").textContent = refused ? "That is not the token of this server." : "";
  byId("token").value = "";
  insist(byId("d-token"), () => given !== null);
  return new Promise((done) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      given = byId("token").value.trim() || null;
      if (given === null) return;
      byId("d-token").close();
      done(given);
    };
  });
}

/** Lets the user choose or name a project; calls `open(name)`. Without a project the dialog stays. */
export async function chooseProject(open) {
  const dialog = byId("d-project");
  const { projects } = await get("state");
  let chosen = false;
  const choose = (name) => {
    chosen = true;
    dialog.close();
    open(name);
  };
  byId("projects").replaceChildren(...projects.map((name) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.innerHTML = "<b></b>";
    button.firstChild.textContent = name;
    button.addEventListener("click", () => choose(name));
    item.append(button);
    return item;
  }));
  const free = (name, number = 2) => (projects.includes(name) ? free(`My cells ${number}`, number + 1) : name);
  byId("project-name").value = free("My cells");
  byId("new-project").onsubmit = (event) => {
    event.preventDefault();
    const name = byId("project-name").value.trim();
    if (name) choose(name);
  };
  byId("leave-project").hidden = !state.project;
  byId("project-name").select();
  insist(dialog, () => chosen || state.project !== null);
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
  if (state.image) present(byId("d-download"));
}

/** Tells how to get what outlines by click need; addresses become links. */
export function showWeights(text) {
  const parts = text.split(/(https?:[^\s,;]*[^\s,;.:])/);
  byId("weights").replaceChildren(...parts.map((part, index) => {
    if (index % 2 === 0) return part;
    return Object.assign(document.createElement("a"), { href: part, textContent: part, target: "_blank", rel: "noreferrer" });
  }));
  present(byId("d-sam"));
}

export function showHelp() {
  present(byId("d-help"));
}
