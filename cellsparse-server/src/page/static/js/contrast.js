// How the channels of an image are shown: which, in what colour, between which intensities.

import { state, byId, replace } from "./store.js";

const COLOURS = {
  grey: [255, 255, 255], red: [255, 0, 0], green: [0, 255, 0], blue: [0, 80, 255],
  cyan: [0, 255, 255], magenta: [255, 0, 255], yellow: [255, 255, 0],
};
const ORDER = ["green", "magenta", "cyan", "yellow", "red", "blue"];

let channels = [];
let tiles = null;
let limits = [];

const key = () => `cellsparse-display/${state.project}/${state.image.id}`;

/** Shows an image with the contrast it had last time, or one taken from its intensities. */
export async function open(shownBy) {
  tiles = shownBy;
  const image = state.image;
  limits = await tiles.ranges();
  if (image !== state.image) return;
  channels = automatic(image.channels);
  try {
    const stored = JSON.parse(localStorage.getItem(key()));
    if (stored?.length === channels.length) channels = stored;
  } catch {
    // What cannot be read is chosen anew.
  }
  show();
  apply();
}

function automatic(count) {
  const bytes = count === 3 && limits.every(([low, , , high]) => low >= 0 && high <= 255);
  return limits.map(([, low, high, most], index) => {
    if (bytes) return { show: true, low: 0, high: 255, colour: ["red", "green", "blue"][index] };
    const colour = count === 1 ? "grey" : ORDER[index % ORDER.length];
    return { show: index < 6, low, high: high > low ? high : Math.max(most, low + 1), colour };
  });
}

/** The channels as they are shown, for who looks at the image on the server; null while that is not known. */
export function shown() {
  if (channels.length !== state.image?.channels) return null;
  const all = channels.map((channel, index) => ({ ...channel, index })).filter((channel) => channel.show);
  return all.map(({ index, low, high, colour }) => ({ index, low, high, colour: paint(colour) }));
}

function apply() {
  tiles.display(channels.map((channel) => ({ ...channel, colour: paint(channel.colour) })));
  localStorage.setItem(key(), JSON.stringify(channels));
}

// Pure blue is hard to see alone; together with red and green it makes true colours.
function paint(name) {
  const colours = channels.filter((channel) => channel.show).map((channel) => channel.colour);
  const true3 = ["red", "green", "blue"].every((one) => colours.includes(one));
  return name === "blue" && true3 ? [0, 0, 255] : COLOURS[name];
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function show() {
  replace(byId("channels"), channels.map((channel, index) => row(channel, index)));
}

function row(channel, index) {
  const [least, , , most] = limits[index];
  const label = channels.length === 1 ? "Image" : `Channel ${index + 1}`;
  const step = most - least > 20 ? 1 : (most - least) / 200 || 0.01;
  const visible = element("input", { type: "checkbox", "aria-label": `Show ${label}` });
  visible.checked = channel.show;
  visible.addEventListener("change", () => change(channel, { show: visible.checked }));
  const colour = element("select", { "aria-label": `Colour of ${label}` });
  for (const name of Object.keys(COLOURS)) colour.append(element("option", { value: name }, name));
  colour.value = channel.colour;
  colour.addEventListener("change", () => change(channel, { colour: colour.value }));
  const slider = (end, name) => {
    const range = { min: Math.min(least, channel.low), max: Math.max(most, channel.high), step };
    const input = element("input", { type: "range", ...range, "aria-label": `${name} of ${label}`, title: name });
    input.value = channel[end];
    input.addEventListener("input", () => {
      change(channel, { [end]: Number(input.value) });
      tell();
    });
    return input;
  };
  const told = element("output", { class: "told" });
  const tell = () => { told.textContent = `${short(channel.low)} \u2013 ${short(channel.high)}`; };
  tell();
  const range = element("div", { class: "range" }, slider("low", "Black at"), slider("high", "White at"), told);
  const auto = element("button", { class: "auto", title: "Take the contrast from the intensities" }, "Auto");
  auto.addEventListener("click", () => {
    Object.assign(channel, automatic(channels.length)[index]);
    if (channels.length === 3) [, channel.low, channel.high] = limits[index];
    show();
    apply();
  });
  return element("div", { class: "channel" }, visible, colour, range, auto);
}

const short = (value) => String(Number(value.toPrecision(4)));

function change(channel, changes) {
  Object.assign(channel, changes);
  apply();
}
