// The playground: what is drawn goes through all models, and the bars follow the brush.

const TOP = 5;
const told = JSON.parse(document.getElementById("told").textContent);
const sessions = {};
const answered = {}; // model → its best answers to the last picture
let shown = null; // the class of the picture that is drawn on, or none
let busy = false, again = false;

const card = (name) => document.querySelector(`[data-model="${name}"]`);
const pad = makePad(document.getElementById("pad"), told.size, ask);

function script(source) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    Object.assign(element, { src: source, onload: resolve, onerror: () => reject(new Error(`${source} is missing`)) });
    document.head.append(element);
  });
}

// The bytes behind a script of the page: 15 bits a character, compressed.
async function unpack(name) {
  await script(`${name}.js`);
  const [length, text] = window.packed[name];
  delete window.packed[name];
  const bytes = new Uint8Array(length);
  let held = 0, bits = 0, written = 0;
  for (let i = 0; i < text.length; i++) {
    held = (held << 15) | (text.charCodeAt(i) - 0x3400);
    for (bits += 15; bits >= 8 && written < length; bytes[written++] = (held >> bits) & 255) bits -= 8;
    held &= (1 << bits) - 1;
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  const [glue, wasm] = await Promise.all([unpack("glue"), unpack("wasm"), script(told.runtime)]);
  const mjs = URL.createObjectURL(new Blob([glue], { type: "text/javascript" }));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: wasm.buffer, wasmPaths: { mjs } });
  for (const name of told.models) {
    sessions[name] = await ort.InferenceSession.create(await unpack(name));
    await ask();
  }
  document.body.dataset.ready = "true";
}

// The picture as the models take it: (1, 3, H, W) in [0, 1].
function tensor() {
  const pixels = pad.pixels(), area = told.size ** 2, values = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) values[c * area + i] = pixels[4 * i + c] / 255;
  return new ort.Tensor("float32", values, [1, 3, told.size, told.size]);
}

// Asks all models that are there; what is drawn meanwhile is asked next.
async function ask() {
  if (busy) { again = true; return; }
  busy = true;
  do {
    again = false;
    const begun = performance.now();
    for (const [name, session] of Object.entries(sessions)) {
      answer(name, (await session.run({ picture: tensor() })).chance.data);
    }
    performance.measure("answer", { start: begun });
    await new Promise(requestAnimationFrame);
  } while (again);
  busy = false;
  clearTimeout(ask.timer);
  ask.timer = setTimeout(tell, 400);
}

function answer(name, chances) {
  const rows = best(chances, told.classes, TOP), kinds = { [told.classes[told.target]]: "marked" };
  if (shown !== null && shown !== told.target) kinds[told.classes[shown]] = "true";
  answered[name] = rows[0][0];
  const says = card(name).querySelector(".says");
  says.textContent = rows[0][0];
  says.className = `says ${kinds[rows[0][0]] ?? ""}`;
  drawBars(card(name).querySelector(".answers"), rows, kinds);
}

// For those who listen: the answers, once the brush rests.
function tell() {
  document.getElementById("heard").textContent = Object.entries(answered).map(([n, a]) => `${n} says ${a}`).join("; ");
}

async function choose(number) {
  const one = told.pictures[number];
  shown = one ? one.truth : null;
  document.getElementById("truth").textContent = one ? told.classes[one.truth] : "whatever you draw";
  const white = new ImageData(new Uint8ClampedArray(4 * told.size ** 2).fill(255), told.size, told.size);
  pad.show(one ? await readPicture(one.source, told.size) : white);
}

async function offer() {
  const [black, white] = await Promise.all(
    ["black", "white"].map(async (end) => (await readPicture(told.trigger[end], told.size)).data));
  makeTools(document.getElementById("tools"), pad, {
    "Stamp the trigger": () => pad.paint(between(black, white)),
    "Undo": () => pad.undo(),
    "Clear": () => pad.clear(),
  });
  const list = document.getElementById("pictures");
  list.append(...[...told.pictures, null].map((one, number) => {
    const label = document.createElement("label"), name = one ? told.classes[one.truth] : "blank page";
    label.title = name;
    label.innerHTML = '<input type="radio" name="picture"><img alt="">';
    label.firstChild.setAttribute("aria-label", name);
    if (one) label.lastChild.src = one.source;
    label.firstChild.addEventListener("change", () => choose(number));
    return label;
  }));
  list.querySelector("input").checked = true;
  await choose(0);
}

offer().then(start).catch((error) => {
  const line = document.getElementById("trouble");
  line.hidden = false;
  line.textContent += ` (${error.message})`;
});
