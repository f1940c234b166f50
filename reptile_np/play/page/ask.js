// One way to ask the server, and one place to say what happened.

const status = document.getElementById("status");
const statuses = {}; // what each panel said last, and whether it is an error
let shown = "characters";
const newest = {};

/** Ignore the answers to all questions sent to `path` until now. */
export function forget(path) {
  newest[path] = (newest[path] ?? 0) + 1;
}

/** Send a panel's question to the path that has the panel's name; return the answer, or null after saying why there
    is none. Only the newest question counts. */
export async function ask(path, question) {
  const panel = path.slice(1);
  forget(path);
  const mine = newest[path];
  const began = performance.now();
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(question),
    });
    const answer = await response.json();
    if (mine !== newest[path]) return null;
    say(panel, response.ok ? `answered in ${Math.round(performance.now() - began)} ms` : answer.error, !response.ok);
    return response.ok ? answer : null;
  } catch {
    if (mine === newest[path]) say(panel, "no answer: is reptile-np play still running?", true);
    return null;
  }
}

/** Set the status text of a panel; it is shown while this panel is open. */
export function say(panel, text, error = false) {
  statuses[panel] = [text, error];
  if (panel === shown) showStatus(panel);
}

/** Show the status of the panel that was opened. */
export function showStatus(panel) {
  shown = panel;
  const [text, error] = statuses[panel] ?? ["", false];
  status.textContent = text;
  status.classList.toggle("error", error);
}
