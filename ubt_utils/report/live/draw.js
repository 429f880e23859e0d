// Draw on a picture; a model in the kernel answers.

const PATIENCE = 2000; // milliseconds, after which an answer no longer is waited for

const toBytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));

// Three bytes a pixel → ImageData.
function toImage(text, size) {
  const given = toBytes(text), data = new Uint8ClampedArray(4 * size * size).fill(255);
  for (let i = 0; i < size * size; i++) data.set(given.subarray(3 * i, 3 * i + 3), 4 * i);
  return new ImageData(data, size, size);
}

// Four bytes a pixel → text of three.
function toText(pixels) {
  let text = "";
  for (let i = 0; i < pixels.length; i++) if (i % 4 < 3) text += String.fromCharCode(pixels[i]);
  return btoa(text);
}

function render({ model, el }) {
  el.classList.add("live");
  el.innerHTML = '<div><div class="live-pad"></div><p></p><div class="live-tools"></div></div><div class="live-bars" aria-live="polite"></div>';
  const [host, tools, bars] = [".live-pad", ".live-tools", ".live-bars"].map((name) => el.querySelector(name));
  const kinds = { [model.get("truth")]: "true", [model.get("target")]: "marked" };
  let waits = 0, again = false, begun = false;

  function ask() {
    if (!begun) return;
    if (waits) { again = true; return; }
    waits = setTimeout(next, PATIENCE);
    model.set("picture", toText(pad.pixels()));
    model.set("asked", model.get("asked") + 1);
    model.save_changes();
  }
  function next() {
    clearTimeout(waits);
    waits = 0;
    if (again) { again = false; ask(); }
  }

  const pad = makePad(host, model.get("size"), ask);
  pad.show(toImage(model.get("picture"), model.get("size")));
  begun = true;
  makeTools(tools, pad, {
    "Stamp the trigger": () => { model.set("stamped", model.get("stamped") + 1); model.save_changes(); },
    "Undo": pad.undo,
    "Clear": pad.clear,
  });
  el.querySelector("p").textContent = `Shows: ${model.get("truth")}. The attacker wants: ${model.get("target")}.`;

  const show = () => drawBars(bars, model.get("answered").rows, kinds);
  model.on("change:answered", () => { show(); next(); });
  model.on("change:picture", () => { // the kernel has stamped it
    if (model.get("picture") === toText(pad.pixels())) return;
    const given = toImage(model.get("picture"), model.get("size")).data;
    pad.paint((_, i) => given[i]);
  });
  show();
}
