// A square to draw on, by mouse, pen or finger, or by keyboard.

const SIDE = 360; // pixels of the canvas; strokes are kept in 0 … 1

/** The value of a colour of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Draw strokes over the whole of a square canvas, with the pen of the data set. */
export function paint(canvas, strokes) {
  const context = canvas.getContext("2d"), side = canvas.width;
  context.clearRect(0, 0, side, side);
  context.strokeStyle = colour("pen");
  context.lineWidth = (5 / 105) * side;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
    for (const [x, y] of stroke) context.lineTo(x * side, y * side);
    context.stroke();
  }
}

export class Pad {
  /** `changed` is called after each stroke. */
  constructor(title, changed) {
    this.strokes = [];
    this.changed = changed;
    this.cursor = [0.5, 0.5];
    this.down = false;
    this.element = document.createElement("div");
    this.element.className = "pad";
    this.heading = document.createElement("h3");
    this.title = document.createElement("span");
    this.title.textContent = title;
    this.heading.append(this.title);
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = SIDE;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute(
      "aria-label", `${title}: draw here; by keyboard, space lowers and lifts the pen, arrow keys move it`);
    this.element.append(this.heading, this.canvas);
    this.button("×", `clear ${title}`, () => this.clear());
    this.listen();
  }

  button(text, label, action) {
    this.heading.append(button(text, label, action));
  }

  get empty() {
    return this.strokes.length === 0;
  }

  clear() {
    this.strokes = [];
    this.down = false;
    this.pointer = null;
    this.draw();
    this.changed();
  }

  listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((value) => inside(value));
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.pointer != null) return;
      this.keyboard = false;
      this.canvas.setPointerCapture(event.pointerId);
      this.strokes.push([at(event)]);
      this.pointer = event.pointerId;
      this.draw();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.pointer !== event.pointerId) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) this.extend(at(part));
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, (event) => {
        if (this.pointer !== event.pointerId) return;
        this.pointer = null;
        if (end === "pointerup") this.extend(at(event));
        this.draw();
        this.changed();
      });
    }
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => {
      this.keyboard = this.canvas.matches(":focus-visible");
      this.draw();
    });
    this.canvas.addEventListener("blur", () => {
      if (this.down) this.changed();
      this.down = false;
      this.draw();
    });
  }

  key(event) {
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] }[event.key];
    if (event.key === " ") {
      this.down = !this.down;
      if (this.down) this.strokes.push([this.cursor]);
      else this.changed();
    } else if (step) {
      this.cursor = [inside(this.cursor[0] + step[0]), inside(this.cursor[1] + step[1])];
      if (this.down) this.extend(this.cursor);
    } else return;
    event.preventDefault();
    this.keyboard = true;
    this.draw();
  }

  /** Add a point to the last stroke, unless it is where that stroke ends. */
  extend(point) {
    const stroke = this.strokes.at(-1);
    const [x, y] = stroke.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) >= 0.008) stroke.push(point);
  }

  draw() {
    paint(this.canvas, this.strokes);
    if (document.activeElement !== this.canvas || !this.keyboard) return;
    const context = this.canvas.getContext("2d");
    context.fillStyle = colour(this.down ? "maml" : "trained");
    context.fillRect(this.cursor[0] * SIDE - 7, this.cursor[1] * SIDE - 7, 14, 14);
  }
}

export function button(text, label, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.setAttribute("aria-label", label);
  element.title = label;
  element.addEventListener("click", action);
  return element;
}

/** The context of a plot that is w × h units large, cleared. */
export function plotContext(canvas, w, h) {
  const fine = canvas.width / w;
  const context = canvas.getContext("2d");
  context.setTransform(fine, 0, 0, fine, 0, 0);
  context.clearRect(0, 0, w, h);
  return context;
}

export const inside = (value, low = 0, high = 1) => Math.min(Math.max(value, low), high);
