// Learning: start and stop, its state in words, the chart of the loss, algorithm and time.

import { post } from "./api.js";
import { state, set, on, byId, projectPath } from "./store.js";
import { counted, say } from "./dialogs.js";

let refreshed = 0;

export function start() {
  byId("learn").addEventListener("click", toggle);
  byId("anew").addEventListener("click", anew);
  byId("algorithm").addEventListener("change", () => {
    choose({ algorithm: byId("algorithm").value === "auto" ? null : byId("algorithm").value });
  });
  byId("seconds").addEventListener("change", () => choose({ seconds: Number(byId("seconds").value) }));
  byId("min-area").addEventListener("change", () => choose({ min_area: Number(byId("min-area").value) || 0 }));
  on("status drawn connected image redrawing tool clicking adding", show);
  on("losses", chart);
  on("settings algorithms", settings);
  new ResizeObserver(chart).observe(byId("chart"));
}

/** Begins or ends learning. */
export async function toggle() {
  if (!state.image) return;
  try {
    set({ status: await post(`${projectPath()}/learn`, { on: !state.status.wanted }) });
  } catch (error) {
    say(error.message);
  }
}

async function anew() {
  if (!window.confirm("Forget what the model has learned and begin again? What is drawn stays.")) return;
  try {
    const project = await post(`${projectPath()}/forget`);
    set({ status: project.status, losses: [], model: null });
  } catch (error) {
    say(error.message);
  }
}

async function choose(changes) {
  try {
    const project = await post(`${projectPath()}/settings`, { ...state.settings, ...changes });
    set({ settings: project.settings, status: project.status, losses: project.losses, model: project.model });
  } catch (error) {
    say(error.message);
    settings();
  }
}

function settings() {
  const choices = [...state.algorithms, { name: "auto", title: "Try all" }];
  byId("algorithm").replaceChildren(...choices.map(({ name, title }) => new Option(title, name)));
  byId("algorithm").value = state.settings.algorithm ?? "auto";
  byId("seconds").value = state.settings.seconds ?? 60;
  byId("min-area").value = state.settings.min_area ?? 0;
}

/** A preview has come. */
export function preview() {
  refreshed = performance.now();
}

function show() {
  const { status } = state;
  const button = byId("learn");
  button.disabled = !state.image;
  byId("anew").disabled = !state.model && !status.round;
  button.setAttribute("aria-pressed", String(Boolean(status.wanted)));
  button.textContent = status.wanted ? "Stop learning" : "Start learning";
  const [first, second] = words(status);
  byId("status").replaceChildren(first, Object.assign(document.createElement("small"), { textContent: second }));
  byId("status").dataset.phase = status.phase || "off";
  byId("status").dataset.round = status.round?.number ?? 0;
  byId("status").dataset.steps = status.round?.total_steps ?? 0;
  byId("next-step").textContent = advice(status);
}

function words(status) {
  if (!state.connected) return ["No connection to the server.", "Trying again. Every stroke so far is stored."];
  const { round } = status;
  const kept = round && !round.improved ? "; the weights before it were better and stay" : "";
  const share = status.agreement ? `, finds ${Math.round(100 * status.agreement[0])} % of the drawn cells` : "";
  const told = round
    ? `${counted(round.total_steps, "step")}${share}${kept}`
    : state.model ? `Model of ${counted(state.model.steps, "step")}` : "";
  const left = Math.max(0, Math.round((status.seconds || 0) - (status.spent || 0)));
  if (!status.wanted && !["off", "resting", undefined].includes(status.phase)) return ["Stopping\u2026", told];
  switch (status.phase) {
    case "learning": return [`Learning, ${left} s left`, told];
    case "choosing": return ["Trying all algorithms on what is drawn\u2026", "Takes some seconds"];
    case "queued": return ["Waiting for another training of this server\u2026", told];
    case "waiting": return ["Waiting for the first cell.", "Learning begins when one is drawn."];
    case "resting": return ["Done for now; goes on with your next stroke.", told];
    default:
      if (status.message) return [status.message, told];
      if (!state.drawn.cells) return ["Draw some cells first.", told];
      return [told ? "Stopped; the model is kept." : "Ready to learn.", told];
  }
}

/** What to do next, for who is new. */
function advice(status) {
  if (state.adding) return state.adding;
  if (!state.image) return "";
  if (state.redrawing) return "Outline the object anew; Esc leaves it as it is.";
  if (state.tool === "click" && state.clicking) return state.clicking;
  const { cells, background } = state.drawn;
  if (cells < 6 && !status.round && !state.model) {
    return cells ? `${cells} of about 6 cells outlined.` : "Outline about six cells: drag around each of them.";
  }
  if (!background && !status.round && !state.model) return "Now stroke over some background (G), also right beside a cell.";
  if (!status.wanted && !status.round && !state.model) return "Start learning (L).";
  return "";
}

function chart() {
  const canvas = byId("chart");
  canvas.hidden = state.losses.length < 2;
  if (canvas.hidden) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const { losses } = state;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = "#a3acb8";
  // A running mean shows where the noisy losses go.
  const smooth = [];
  losses.reduce((mean, loss, index) => (smooth[index] = mean + (loss - mean) * Math.max(0.1, 1 / (index + 1))), losses[0]);
  const most = Math.max(...losses);
  const least = Math.min(...losses);
  const x = (index) => 6 + (index / (losses.length - 1)) * (width - 12);
  const y = (loss) => height - 6 - ((loss - least) / (most - least || 1)) * (height - 14);
  const line = (values, colour, thick) => {
    context.beginPath();
    values.forEach((value, index) => context.lineTo(x(index), y(value)));
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.stroke();
  };
  line(losses, "#3b5753", 1);
  line(smooth, "#45c4b0", 2);
  const text = `Loss ${smooth[smooth.length - 1].toFixed(3)}`;
  context.fillText(text, width - 8 - context.measureText(text).width, 14);
  canvas.setAttribute("aria-label", `${text} after ${counted(losses.length, "shown step")}`);
}

export const lastPreview = () => refreshed;
