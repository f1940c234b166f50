// Sine: points placed by a click; three initialisations learn the wave through them.
import { ask, forget, say } from "/ask.js";
import { colour, inside, plotContext } from "/pad.js";
import { player } from "/player.js";

const X = [-5, 5], Y = [-6, 6];
const WIDTH = 900, HEIGHT = 460;
const LINES = { reptile: ["trained", []], maml: ["maml", [10, 5]], joint: ["joint", [3, 4]] };
const element = (id) => document.getElementById(id);
const plot = element("wave-plot");

let points = [];
let answer = null;

const toPixel = ([x, y]) => [
  ((x - X[0]) / (X[1] - X[0])) * WIDTH,
  ((Y[1] - y) / (Y[1] - Y[0])) * HEIGHT,
];

async function update() {
  if (points.length) {
    answer = (await ask("/waves", { points })) ?? answer;
  } else {
    answer = null;
    forget("/waves");
    say("waves", "click on the picture to place points");
  }
  show();
}

export function show() {
  const context = plotContext(plot, WIDTH, HEIGHT);
  const step = Number(element("wave-step").value);
  element("wave-step-value").textContent = step;
  axes(context);
  for (const [name, [key, dashes]] of Object.entries(answer ? LINES : {})) {
    line(context, answer.x.map((x, i) => [x, answer.predictions[name][step][i]]), colour(key), dashes, 3);
  }
  context.fillStyle = colour("ink");
  for (const point of points) {
    context.beginPath();
    context.arc(...toPixel(point), 6, 0, 2 * Math.PI);
    context.fill();
  }
  const words = Object.keys(LINES).map((name) => {
    const error = answer ? meanSquaredError(answer.predictions[name][step]).toFixed(2) : "";
    element(`error-${name}`).textContent = error;
    return `${name} ${error}`;
  });
  plot.setAttribute("aria-label", `${points.length} points. ${answer
    ? `Mean squared error on them after ${step} steps: ${words.join(", ")}`
    : "Place points by clicking, or by the fields for x and y"}`);
}

/** The axes, and numbers along them. */
function axes(context) {
  context.fillStyle = colour("soft");
  context.font = "15px system-ui, sans-serif";
  for (let x = -4; x <= 4; x += 2) {
    line(context, [[x, Y[0]], [x, Y[1]]], colour("line"), [], x ? 0.6 : 1.5);
    if (x) context.fillText(x, toPixel([x, 0])[0] + 5, toPixel([0, 0])[1] + 18);
  }
  for (let y = -4; y <= 4; y += 2) {
    line(context, [[X[0], y], [X[1], y]], colour("line"), [], y ? 0.6 : 1.5);
    if (y) context.fillText(y, toPixel([0, y])[0] + 6, toPixel([0, y])[1] - 5);
  }
}

/** The error on the user's points; between points of the line the prediction is interpolated. */
function meanSquaredError(predictions) {
  const last = predictions.length - 1;
  const errors = points.map(([x, y]) => {
    const place = ((x - X[0]) / (X[1] - X[0])) * last;
    const i = Math.min(Math.floor(place), last - 1);
    return (predictions[i] + (place - i) * (predictions[i + 1] - predictions[i]) - y) ** 2;
  });
  return errors.reduce((a, b) => a + b) / errors.length;
}

function line(context, path, style, dashes, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dashes);
  context.beginPath();
  for (const point of path) context.lineTo(...toPixel(point));
  context.stroke();
  context.setLineDash([]);
}

/** Add a point; a typed one may lie beside the plot, and is moved to its edge. */
function add([x, y]) {
  if (points.length < 50) points.push([inside(x, ...X), inside(y, ...Y)]);
  update();
}

plot.addEventListener("pointerdown", (event) => {
  const box = plot.getBoundingClientRect();
  add([
    X[0] + ((event.clientX - box.left) / box.width) * (X[1] - X[0]),
    Y[1] - ((event.clientY - box.top) / box.height) * (Y[1] - Y[0]),
  ]);
});
element("add-point").addEventListener("click", () =>
  add([Number(element("wave-x").value), Number(element("wave-y").value)]));
element("clear-wave").addEventListener("click", () => { points = []; update(); });
element("example-wave").addEventListener("click", () => {
  const a = 0.1 + 4.9 * Math.random(), b = 2 * Math.PI * Math.random();
  points = Array.from({ length: 10 }, () => -5 + 10 * Math.random()).map((x) => [x, a * Math.sin(x + b)]);
  update();
});
element("wave-step").addEventListener("input", show);
player(element("wave-step-play"), element("wave-step"));
