// Write captions; the kernel says how surprising their words are.

const PAUSE = 150; // milliseconds without a key, after which the captions are sent

function render({ model, el }) {
  el.classList.add("live");
  el.innerHTML = '<label class="live-captions">Captions, one a line<textarea rows="14" spellcheck="false"></textarea></label><div><p></p><div class="live-bars" data-scale="own" aria-live="polite"></div></div>';
  const [text, line, bars] = ["textarea", "p", ".live-bars"].map((name) => el.querySelector(name));
  const kinds = Object.fromEntries(model.get("marked").map((word) => [word, "marked"]));
  let pause = 0;
  text.value = model.get("captions");
  text.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => { model.set("captions", text.value); model.save_changes(); }, PAUSE);
  });
  function show() {
    const { lines, rows, wrong } = model.get("answered");
    line.textContent = wrong || `Surprise G of the words of ${lines} captions`;
    drawBars(bars, rows, kinds);
  }
  model.on("change:answered", show);
  show();
}
