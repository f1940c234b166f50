// A button that moves a slider from its first value to its last.

const MILLISECONDS = 70; // of one step

export function player(button, slider) {
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
  };
  const go = (value) => {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    go(slider.min);
    button.textContent = "❚❚";
    timer = setInterval(() => {
      go(Number(slider.value) + 1);
      if (slider.value === slider.max) stop();
    }, MILLISECONDS);
  });
  slider.addEventListener("pointerdown", stop);
  slider.addEventListener("keydown", stop);
}
