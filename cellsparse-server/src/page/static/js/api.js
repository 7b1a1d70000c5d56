// Requests to the server of this page, and its stream of events.

const BASE = new URL("api/", new URL(".", location.href.split("#")[0])).pathname;

let token = sessionStorage.getItem("cellsparse-token") || "";
let askForToken = async () => "";
let asking = null; // while somebody is asked for it

/** Who is asked for the token when the server wants one; is told whether one was refused. */
export function onToken(ask) {
  askForToken = ask;
}

function headers(more) {
  // A header holds bytes: those of UTF-8, which is what the server compares.
  const bytes = String.fromCharCode(...new TextEncoder().encode(token));
  return token ? { ...more, Authorization: `Bearer ${bytes}` } : { ...more };
}

/** Waits for another token than the one that was refused; requests that were refused at the same time ask once. */
async function another(refused) {
  if (token !== refused) return;
  asking ??= askForToken(refused !== "").finally(() => { asking = null; });
  token = await asking;
  sessionStorage.setItem("cellsparse-token", token);
}

/** A request; gives the response, or throws an Error with a message for people. */
export async function request(path, { method = "GET", json, body, signal } = {}) {
  for (;;) {
    let response;
    const brought = token;
    const more = json !== undefined ? { "Content-Type": "application/json" } : {};
    if (body !== undefined) more["Content-Type"] = "application/octet-stream";
    try {
      response = await fetch(BASE + path, {
        method, signal, headers: headers(more), body: json !== undefined ? JSON.stringify(json) : body,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is cellsparse serve still running?");
    }
    if (response.status === 401) {
      await another(brought);
      continue;
    }
    if (response.ok) return response;
    throw new Error(await reason(response));
  }
}

async function reason(response) {
  try {
    const { detail } = await response.json();
    const text = typeof detail === "string" ? detail : detail.map((one) => one.msg).join("; ");
    return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
  } catch {
    return `The server answered with ${response.status}.`;
  }
}

export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

export async function post(path, json = {}) {
  return (await request(path, { method: "POST", json })).json();
}

/** Calls `on(name, data)` for every event of a project until `signal` is aborted; connects again when the stream ends. */
export async function listen(project, on, signal) {
  while (!signal.aborted) {
    try {
      const response = await request(`projects/${encodeURIComponent(project)}/events`, { signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      on("connected", {});
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const lines = part.split("\n");
          const field = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
          if (field("event")) on(field("event"), JSON.parse(field("data") || "{}"));
        }
      }
    } catch {
      if (signal.aborted) return;
    }
    on("disconnected", {});
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** Stores a response as a file. */
export async function save(path) {
  const response = await request(path);
  // Not `blob()`: Chromium 156 keeps what that reads on the disk, and fails when little of it is free though the file would fit.
  const bytes = await response.arrayBuffer().catch(() => { throw new Error("The file broke off on its way. Download it again."); });
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "")?.[1] || "result";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return name;
}
