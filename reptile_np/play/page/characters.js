// Draw: classes of a few drawings each, new drawings, and the answers after every inner step.
import { ask, forget, say } from "/ask.js";
import { Pad, button, paint } from "/pad.js";
import { player } from "/player.js";

const LETTERS = "ABCDE";
const MOST_EXAMPLES = 5;
const FEWEST = 3; // classes
const NAMES = { trained: "meta-trained start", random: "random start" };
// strokes of five characters, and of two of them drawn again, for those who only want to look
const EXAMPLE = {
  classes: [
    [[[0.2, 0.8], [0.25, 0.45], [0.5, 0.2], [0.75, 0.45], [0.8, 0.8]], [[0.5, 0.2], [0.5, 0.6]]],
    [[[0.75, 0.25], [0.45, 0.18], [0.25, 0.4], [0.4, 0.58], [0.7, 0.62], [0.72, 0.8], [0.4, 0.85], [0.2, 0.75]]],
    [[[0.2, 0.3], [0.8, 0.3]], [[0.35, 0.3], [0.35, 0.85]], [[0.65, 0.15], [0.65, 0.65]]],
    [[[0.2, 0.2], [0.5, 0.5], [0.2, 0.8]], [[0.5, 0.5], [0.85, 0.5]]],
    [[[0.3, 0.2], [0.3, 0.75], [0.5, 0.85], [0.7, 0.75], [0.7, 0.45], [0.5, 0.4], [0.3, 0.5]]],
  ],
  queries: [
    [[[0.8, 0.2], [0.5, 0.15], [0.28, 0.33], [0.45, 0.52], [0.74, 0.58], [0.7, 0.78], [0.42, 0.8], [0.25, 0.72]]],
    [[[0.15, 0.36], [0.82, 0.27]], [[0.33, 0.3], [0.36, 0.8]], [[0.7, 0.18], [0.62, 0.7]]],
  ],
};
const element = (id) => document.getElementById(id);

let classes = []; // of arrays of pads
let queries = [];
let answer = null;

const pads = () => [...classes.flat(), ...queries];

function addExample(c, strokes = []) {
  if (classes[c].length >= MOST_EXAMPLES) return;
  const titles = Array.from({ length: MOST_EXAMPLES }, (_, i) => `${LETTERS[c]}${i ? `, example ${i + 1}` : ""}`);
  const taken = classes[c].map((pad) => pad.title.textContent);
  const title = titles.find((free) => !taken.includes(free));
  const pad = new Pad(title, update);
  pad.strokes = strokes;
  pad.button(...(classes[c].length
    ? ["−", `remove ${title}`, () => { classes[c] = classes[c].filter((p) => p !== pad); render(); update(); }]
    : ["+", `add an example of ${LETTERS[c]}`, () => { addExample(c); render(); }]));
  classes[c].push(pad);
}

function addClass(strokes = []) {
  classes.push([]);
  addExample(classes.length - 1, strokes);
}

function addQuery(strokes = []) {
  const title = `new ${queries.length + 1}`;
  queries.push(new Pad(title, update));
  queries.at(-1).strokes = strokes;
}

function render() {
  element("classes").replaceChildren(...classes.map((examples) => {
    const column = document.createElement("div");
    column.className = "class";
    column.append(...examples.map((pad) => pad.element));
    column.querySelector("h3 button:last-of-type").disabled = examples.length >= MOST_EXAMPLES; // +
    return column;
  }));
  element("queries").replaceChildren(...queries.map((pad) => pad.element));
  element("add-class").disabled = classes.length >= LETTERS.length;
  element("remove-class").disabled = classes.length <= FEWEST;
  element("add-query").disabled = queries.length >= LETTERS.length;
  show();
}

async function update() {
  const examples = classes.map((drawn) => drawn.filter((pad) => !pad.empty).map((pad) => pad.strokes));
  const drawn = queries.filter((pad) => !pad.empty);
  const missing = [...LETTERS].filter((_, c) => examples[c]?.length === 0);
  if (missing.length || drawn.length === 0) {
    answer = null;
    forget("/characters");
    say("characters", missing.length ? `draw an example of ${missing.join(", ")}` : "draw a character below New drawings");
    return showAnswers();
  }
  const question = {
    classes: examples,
    queries: drawn.map((pad) => pad.strokes),
    transductive: element("transductive").checked,
  };
  const got = await ask("/characters", question);
  if (!got) return;
  answer = { ...got, drawn: drawn.map((pad) => ({ title: pad.title.textContent, strokes: [...pad.strokes] })) };
  showAnswers();
}

function showAnswers() {
  const step = Number(element("step").value);
  element("step-value").textContent = step;
  element("answers").replaceChildren(...(answer?.drawn ?? []).map(({ title, strokes }, q) => {
    const card = document.createElement("div");
    card.className = "answer";
    const heading = document.createElement("h3");
    const picture = document.createElement("canvas");
    picture.setAttribute("aria-hidden", "true");
    picture.width = picture.height = 96;
    paint(picture, strokes);
    heading.append(picture, title);
    card.append(heading, ...Object.keys(NAMES).map((name) => bars(name, answer.probabilities[name][step][q])));
    return card;
  }));
}

/** A table of the classes' probabilities, each with a bar. */
function bars(name, probabilities) {
  const table = document.createElement("table");
  table.dataset.initialisation = name;
  table.createCaption().textContent = NAMES[name];
  const best = probabilities.indexOf(Math.max(...probabilities));
  for (const [c, p] of probabilities.entries()) {
    const row = table.insertRow();
    row.className = c === best ? "best" : "";
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = LETTERS[c];
    row.append(head);
    const meter = document.createElement("meter");
    meter.className = name;
    meter.value = p;
    meter.setAttribute("aria-hidden", "true");
    row.insertCell().append(meter);
    const number = row.insertCell();
    number.className = "number";
    number.textContent = `${(100 * p).toFixed(1)} %`;
    number.dataset.probability = p;
  }
  return table;
}

export function show() {
  for (const pad of pads()) pad.draw();
  showAnswers();
}

function begin(count) {
  classes = [];
  queries = [];
  for (let c = 0; c < count; c++) addClass();
  addQuery();
}

element("example").addEventListener("click", () => {
  classes = [];
  queries = [];
  for (const strokes of structuredClone(EXAMPLE.classes)) addClass(strokes);
  for (const strokes of structuredClone(EXAMPLE.queries)) addQuery(strokes);
  render();
  update();
});
element("add-class").addEventListener("click", () => { addClass(); render(); update(); });
element("remove-class").addEventListener("click", () => { classes.pop(); render(); update(); });
element("add-query").addEventListener("click", () => { addQuery(); render(); });
element("clear-all").addEventListener("click", () => { begin(classes.length); render(); update(); });
element("transductive").addEventListener("change", update);
element("step").addEventListener("input", showAnswers);
player(element("step-play"), element("step"));
begin(LETTERS.length);
render();
say("characters", "draw a character for each class, then one of them again");
