// One way to ask the server, and one place to say what happened.

const status = document.getElementById("status");
const newest = {};

/** Ignore the answers to all questions sent to `path` until now. */
export function forget(path) {
  newest[path] = (newest[path] ?? 0) + 1;
}

/** Send a question; return the answer, or null after showing why there is none. Only the newest question counts. */
export async function ask(path, question) {
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
    say(response.ok ? `answered in ${Math.round(performance.now() - began)} ms` : answer.error, !response.ok);
    return response.ok ? answer : null;
  } catch {
    if (mine === newest[path]) say("no answer: is reptile-np play still running?", true);
    return null;
  }
}

export function say(text, error = false) {
  status.textContent = text;
  status.classList.toggle("error", error);
}
