// Named values as bars: `marked` names are red, `true` ones blue, the others gray.

// host: an element. rows: [[name, value, shown], …], best first. kinds: name → "marked" | "true".
function drawBars(host, rows, kinds) {
  const most = Math.max(1e-9, ...rows.map(([, value]) => value));
  const scale = host.dataset.scale === "own" ? most : 1;
  host.classList.add("bars");
  host.replaceChildren(...rows.map(([name, value, shown]) => {
    const row = document.createElement("div");
    row.className = `bar ${kinds[name] ?? ""}`;
    row.dataset.name = name;
    row.dataset.value = value;
    row.innerHTML = '<span class="bar-name"></span><span class="bar-track"><i></i></span><span class="bar-value"></span>';
    row.querySelector("i").style.width = `${100 * Math.max(0, value) / scale}%`;
    row.querySelector(".bar-name").textContent = name;
    row.querySelector(".bar-value").textContent = shown;
    return row;
  }));
}

// Chances of classes → the best `count` of them as rows for `drawBars`.
function best(chances, classes, count) {
  const order = Array.from(chances.keys()).sort((a, b) => chances[b] - chances[a]).slice(0, count);
  return order.map((i) => [classes[i], chances[i], `${(100 * chances[i]).toFixed(chances[i] < 0.1 ? 1 : 0)} %`]);
}
