// A picture to draw on, by mouse, finger or keys. What is seen is what the model gets: each pixel is one square.

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// host: an element. size: pixels a side. changed(): called after every change.
// Returns show(image, done), paint(map), clear(), undo(), pixels(), and brush, whose color and width may be set.
function makePad(host, size, changed) {
  host.classList.add("pad");
  host.innerHTML = '<canvas tabindex="0" role="img"></canvas><span class="pad-cursor" hidden></span>';
  const canvas = host.querySelector("canvas");
  const cursor = host.querySelector(".pad-cursor");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = canvas.height = size;
  canvas.setAttribute("aria-label", "Picture to draw on. Arrow keys move the brush, space draws.");
  const brush = { color: "#000000", width: 4 };
  const past = [];
  let base = null, last = null, at = [size / 2, size / 2];

  const whole = () => context.getImageData(0, 0, size, size);
  const remember = () => { past.push(whole()); if (past.length > 50) past.shift(); };

  function line(from, to) {
    context.strokeStyle = brush.color;
    context.lineWidth = brush.width;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.001, to[1]); // a point, too, is drawn
    context.stroke();
    changed();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * size, (event.clientY - box.top) / box.height * size];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    cursor.hidden = true;
    canvas.setPointerCapture(event.pointerId);
    remember();
    line(last = place(event), last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const to = place(one);
      line(last, to);
      last = to;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });

  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    if (move) at = at.map((x, k) => Math.min(size, Math.max(0, x + move[k] * (event.shiftKey ? 4 : 1))));
    else { remember(); line(at, at); }
    cursor.hidden = false;
    cursor.style.left = `${100 * at[0] / size}%`;
    cursor.style.top = `${100 * at[1] / size}%`;
  });
  canvas.addEventListener("blur", () => { cursor.hidden = true; });

  const put = (image) => { context.putImageData(image, 0, 0); changed(); };
  return {
    brush,
    canvas,
    show(image) { base = image; past.length = 0; put(image); },
    paint(map) { // map: byte, its place in the red-green-blue-opacity bytes → byte
      remember();
      const image = whole();
      image.data.set(image.data.map((value, i) => (i % 4 === 3 ? 255 : map(value, i))));
      put(image);
    },
    clear() { remember(); put(base); },
    undo() { if (past.length) put(past.pop()); },
    pixels: () => whole().data,
  };
}

// Two pictures that a trigger made of black and of white → what it makes of any byte, for `paint`.
function between(black, white) {
  return (value, i) => Math.round(black[i] + value / 255 * (white[i] - black[i]));
}

// A data URL → ImageData of size × size pixels.
async function readPicture(source, size) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, size, size);
}

// Colors, width, and buttons below a pad. actions: label → what it does.
function makeTools(host, pad, actions) {
  const colors = { black: "#000000", white: "#ffffff", red: "#d02020", yellow: "#f2c200", green: "#1b8a5a", blue: "#2060c0" };
  const group = `brush-${Math.random()}`;
  host.classList.add("tools");
  host.innerHTML = `<fieldset><legend>Color</legend>${Object.entries(colors).map(([name, color]) =>
    `<label title="${name}"><input type="radio" name="${group}" value="${color}" aria-label="${name}"
      ${name === "black" ? "checked" : ""}><i style="background:${color}"></i></label>`).join("")}</fieldset>
    <label class="width">Brush <input type="range" min="1" max="12" value="${pad.brush.width}"></label><div></div>`;
  host.querySelector("fieldset").addEventListener("change", (event) => { pad.brush.color = event.target.value; });
  host.querySelector("[type=range]").addEventListener("input", (event) => { pad.brush.width = +event.target.value; });
  for (const [label, act] of Object.entries(actions)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.addEventListener("click", act);
    host.lastElementChild.append(button);
  }
}
