// Two curves: Figure 2, with circles and a start that can be dragged or moved by arrow keys.
import { ask } from "/ask.js";
import { colour, plotContext } from "/pad.js";

const SCALE = 82, WIDTH = 900, HEIGHT = 540; // SCALE: of one unit
const element = (id) => document.getElementById(id);
const plot = element("move-plot");

const circles = { a: [-2.6, -0.6, 1.9], b: [2.6, 0.5, 1.7] };
let start = [1.6, 2.9];
let answer = null;
let dragged = null;

const toPixel = ([x, y]) => [WIDTH / 2 + SCALE * x, HEIGHT / 2 - SCALE * y];

async function update() {
  for (const id of ["epsilon", "count"]) element(`${id}-value`).textContent = element(id).value;
  const question = {
    circles: [circles.a, circles.b],
    start,
    epsilon: Number(element("epsilon").value),
    moves: Number(element("count").value),
  };
  answer = (await ask("/moves", question)) ?? answer;
  draw();
}

function draw() {
  const context = plotContext(plot, WIDTH, HEIGHT);
  for (const [name, key, dashes] of [["a", "trained", []], ["b", "maml", [10, 6]]]) {
    const [x, y, radius] = circles[name];
    context.strokeStyle = context.fillStyle = colour(key);
    context.lineWidth = 3;
    context.setLineDash(dashes);
    context.beginPath();
    context.arc(...toPixel([x, y]), radius * SCALE, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
    dot(context, [x, y], 6);
    context.font = "600 24px system-ui, sans-serif";
    context.fillText(name.toUpperCase(), toPixel([x, y])[0] + 12, toPixel([x, y])[1] + 8);
  }
  if (!answer) return;
  context.strokeStyle = context.fillStyle = colour("ink");
  context.lineWidth = 1.5;
  context.beginPath();
  for (const point of answer.path) context.lineTo(...toPixel(point));
  context.stroke();
  for (const point of answer.path) dot(context, point, 3);
  dot(context, start, 8);
  context.fillStyle = colour("joint");
  context.strokeStyle = colour("paper");
  context.lineWidth = 3;
  star(context, toPixel(answer.limit), 15);
  const [x, y] = answer.limit.map((v) => v.toFixed(2));
  plot.setAttribute("aria-label", `Two circles of solutions; the path ends near (${x}, ${y}), nearest to both. `
    + "Arrow keys move the chosen circle or the start.");
}

function dot(context, point, radius) {
  context.beginPath();
  context.arc(...toPixel(point), radius, 0, 2 * Math.PI);
  context.fill();
}

function star(context, [x, y], size) {
  context.beginPath();
  for (let i = 0; i < 10; i++) {
    const r = i % 2 ? size * 0.42 : size, angle = (Math.PI * i) / 5 - Math.PI / 2;
    context.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  context.closePath();
  context.stroke();
  context.fill();
}

const distance = ([x, y], [u, v]) => Math.hypot(x - u, y - v);

/** What is within `reach` of a point of the plane: a function that moves it to another, or null. */
function grab(at, reach) {
  if (distance(at, start) < reach) return (to) => { start = to; };
  for (const circle of Object.values(circles)) {
    if (distance(at, circle) < reach) return (to) => { [circle[0], circle[1]] = to; };
    if (Math.abs(distance(at, circle) - circle[2]) < 0.8 * reach) {
      return (to) => { circle[2] = Math.max(0.2, distance(to, circle)); };
    }
  }
  return null;
}

function where(event) {
  const box = plot.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * WIDTH;
  const y = ((event.clientY - box.top) / box.height) * HEIGHT;
  return [(x - WIDTH / 2) / SCALE, (HEIGHT / 2 - y) / SCALE];
}

plot.addEventListener("pointerdown", (event) => {
  dragged = grab(where(event), event.pointerType === "touch" ? 0.7 : 0.3);
  if (dragged) plot.setPointerCapture(event.pointerId);
});
for (const kind of ["pointermove", "pointerup"]) {
  plot.addEventListener(kind, (event) => {
    if (!dragged) return;
    dragged(where(event));
    if (kind === "pointerup") dragged = null;
    update();
  });
}
plot.addEventListener("pointercancel", () => { dragged = null; });
plot.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const chosen = element("handle").value === "start" ? start : circles[element("handle").value];
  chosen[0] += step[0];
  chosen[1] += step[1];
  update();
});
for (const id of ["epsilon", "count"]) element(id).addEventListener("input", update);

export function show() {
  update();
}
