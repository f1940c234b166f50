// The tabs.
import * as characters from "/characters.js";
import * as waves from "/waves.js";
import * as moves from "/moves.js";
import { showStatus } from "/ask.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = { characters, waves, moves };

function select(tab) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  showStatus(tab.getAttribute("aria-controls"));
  panels[tab.getAttribute("aria-controls")].show();
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    const next = tabs[(i + way + tabs.length) % tabs.length];
    next.focus();
    select(next);
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const panel of Object.values(panels)) panel.show();
});
characters.show();
