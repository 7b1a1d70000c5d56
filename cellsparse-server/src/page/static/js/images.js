// The images of the project: the list, adding by drag and drop, by choosing files, from the server's folder.

import { get, post, request } from "./api.js";
import { state, set, on, byId, projectPath } from "./store.js";
import { counted, say } from "./dialogs.js";

let show = async () => {};

export function start(showImage) {
  show = showImage;
  on("images image drawn", list);
  on("folder", () => { byId("folder").hidden = state.folder === null; });
  for (const id of ["open", "open-empty"]) byId(id).addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", () => {
    add([...byId("files").files]);
    byId("files").value = "";
  });
  byId("folder").addEventListener("click", fromFolder);
  drops();
}

function drops() {
  let inside = 0;
  const hide = (hidden) => { byId("drop").hidden = hidden; };
  window.addEventListener("dragenter", (event) => {
    event.preventDefault();
    inside += 1;
    hide(false);
  });
  window.addEventListener("dragleave", () => {
    inside -= 1;
    if (inside <= 0) hide(true);
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    hide(true);
    add([...event.dataTransfer.files]);
  });
}

/** Adds files to the project and shows the first of them. */
export async function add(files) {
  let first = null;
  for (const file of files) {
    try {
      const path = `${projectPath()}/images?name=${encodeURIComponent(file.name)}`;
      const added = await (await request(path, { method: "POST", body: file })).json();
      first ||= added;
    } catch (error) {
      say(`${file.name} was not added. ${error.message}`);
    }
  }
  await taken(first);
}

async function taken(first) {
  if (!first) return;
  await refresh();
  if (!state.image || first.id !== state.image.id) await show(first.id);
}

/** Reads the list of images anew. */
export async function refresh() {
  const project = await get(projectPath());
  set({ images: project.images });
  if (state.image && !project.images.some((image) => image.id === state.image.id)) await show(project.images[0]?.id ?? null);
}

function list() {
  byId("images").replaceChildren(...state.images.map((image) => {
    const shown = image.id === state.image?.id;
    const cells = shown ? state.drawn.cells : image.cells;
    const button = document.createElement("button");
    if (shown) button.setAttribute("aria-current", "true");
    button.title = `${image.name}: ${image.columns} x ${image.rows} pixels, ${counted(image.channels, "channel")}`;
    button.innerHTML = "<b></b><small></small>";
    button.firstChild.textContent = image.name;
    button.lastChild.textContent = cells ? `${cells} drawn` : "";
    button.addEventListener("click", () => show(image.id));
    const remove = document.createElement("button");
    remove.className = "mini";
    remove.textContent = "\u00d7";
    remove.title = "Take out of the project";
    remove.setAttribute("aria-label", `Take ${image.name} out of the project`);
    remove.addEventListener("click", () => takeOut(image));
    const item = document.createElement("li");
    item.append(button, remove);
    return item;
  }));
  byId("empty").hidden = state.image !== null;
}

async function takeOut(image) {
  const drawn = image.cells || (image.id === state.image?.id && state.drawn.cells);
  if (drawn && !window.confirm(`Take ${image.name} out of the project, with what is drawn on it?`)) return;
  try {
    await post(`${projectPath()}/images/${image.id}/remove`);
    await refresh();
  } catch (error) {
    say(error.message);
  }
}

function fromFolder() {
  const dialog = byId("d-folder");
  byId("folder-images").replaceChildren(...state.folder.map((name) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.innerHTML = "<b></b>";
    button.firstChild.textContent = name;
    button.addEventListener("click", async () => {
      dialog.close();
      try {
        await taken(await post(`${projectPath()}/from-folder`, { name }));
      } catch (error) {
        say(`${name} was not added. ${error.message}`);
      }
    });
    item.append(button);
    return item;
  }));
  dialog.showModal();
}
