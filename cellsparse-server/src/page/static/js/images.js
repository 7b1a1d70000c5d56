// The images of the project: the list, adding by drag and drop, by choosing files, from the server's folder.

import { get, post, request } from "./api.js";
import { state, set, on, byId, replace, projectPath } from "./store.js";
import { counted, say } from "./dialogs.js";

const IMAGE = /\.(png|tiff?|jpe?g)$/i;

let show = async () => {};
const early = []; // files that were dropped before there was a project

export function start(showImage) {
  show = showImage;
  on("images image drawn", list);
  on("project", () => add(early.splice(0)));
  on("folder", () => { byId("folder").hidden = state.folder === null; });
  for (const id of ["open", "open-empty"]) byId(id).addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", () => {
    add([...byId("files").files]);
    byId("files").value = "";
  });
  byId("folder").addEventListener("click", fromFolder);
  drops();
}

/** Files that are dragged over the page are announced and taken, wherever they are let go. */
function drops() {
  const files = (event) => [...event.dataTransfer.types].includes("Files");
  let leaving = 0;
  const hide = () => { byId("drop").hidden = true; };
  for (const kind of ["dragenter", "dragover"]) {
    window.addEventListener(kind, (event) => {
      if (!files(event)) return;
      event.preventDefault();
      byId("drop").hidden = false;
      // Browsers do not agree on when something left; over the page, each of them says so several times a second.
      clearTimeout(leaving);
      leaving = setTimeout(hide, 800);
    });
  }
  window.addEventListener("drop", async (event) => {
    if (!files(event)) return;
    event.preventDefault();
    hide();
    add(await dropped(event.dataTransfer));
  });
}

/** The files of what was dropped; of folders the images in them. */
async function dropped(data) {
  // To be asked for at once: what was dropped is there during the event only.
  const items = [...data.items].filter((item) => item.kind === "file");
  const parts = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const lists = await Promise.all(parts.map(async ([entry, file]) => {
    if (!entry?.isDirectory) return [file];
    const found = await within(entry);
    if (!found.length) say(`There are no images (PNG, TIFF, JPEG) in the folder ${entry.name}.`);
    return found;
  }));
  return lists.flat();
}

async function within(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    // Some at a time, until there are none.
    const some = await new Promise((done, failed) => { reader.readEntries(done, failed); });
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const lists = await Promise.all(entries.map(async (entry) => {
    if (entry.isDirectory) return within(entry);
    if (!IMAGE.test(entry.name)) return [];
    return [await new Promise((done, failed) => { entry.file(done, failed); })];
  }));
  return lists.flat();
}

/** Adds files to the project and shows the first of them; without a project, as soon as there is one. */
export async function add(files) {
  if (!files.length) return;
  if (!state.project) {
    early.push(...files);
    say(`Create or choose a project: ${counted(early.length, "image")} will be added to it.`, true);
    return;
  }
  let first = null;
  for (const [index, file] of files.entries()) {
    set({ adding: files.length > 1 ? `Adding image ${index + 1} of ${files.length}\u2026` : `Adding ${file.name}\u2026` });
    try {
      const path = `${projectPath()}/images?name=${encodeURIComponent(file.name)}`;
      const added = await (await request(path, { method: "POST", body: file })).json();
      first ||= added;
    } catch (error) {
      say(`${file.name} was not added. ${error.message}`);
    }
  }
  set({ adding: "" });
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
  replace(byId("images"), state.images.map((image) => {
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
