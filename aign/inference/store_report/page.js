"use strict";
/* Layers on and off, and one frame at a time in the size of the window. Without it the page still says everything. */
(() => {
  const dialog = document.querySelector("dialog.large");
  const find = (name) => dialog.querySelector(`[data-part="${name}"]`);
  const tiles = [...document.querySelectorAll(".tile")];
  let shown = -1;

  for (const bar of document.querySelectorAll(".layers")) {
    bar.hidden = false;
    for (const box of bar.querySelectorAll("input")) {
      box.addEventListener("change", () => document.body.classList.toggle(`hide-${box.value}`, !box.checked));
    }
  }

  function fit() {
    if (shown < 0) return;
    const ratio = Number(tiles[shown].dataset.ratio), canvas = find("canvas");
    const room = [document.documentElement.clientWidth * 0.96, window.innerHeight * 0.94 - find("close").parentElement.offsetHeight];
    const width = Math.min(room[0], 1100, room[1] * ratio);
    find("caption").parentElement.style.maxWidth = `${Math.max(width, 340)}px`; /* a long caption does not widen it */
    canvas.style.width = `${width}px`;
    canvas.style.height = `${width / ratio}px`;
  }

  function show(number) {
    shown = (number + tiles.length) % tiles.length;
    const tile = tiles[shown], canvas = find("canvas");
    canvas.replaceChildren(...[...tile.children].filter((child) => !child.classList.contains("at")).map((child) => child.cloneNode(true)));
    const name = tile.closest(".clip").querySelector("[data-name]").textContent;
    find("caption").textContent = `${name}: ${tile.getAttribute("aria-label")}`;
    if (!dialog.open) dialog.showModal();
    fit();
  }

  tiles.forEach((tile, number) => tile.addEventListener("click", () => show(number)));
  find("before").addEventListener("click", () => show(shown - 1));
  find("after").addEventListener("click", () => show(shown + 1));
  find("close").addEventListener("click", () => dialog.close());
  find("canvas").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(shown + step);
  });
  window.addEventListener("resize", fit);
  document.body.dataset.ready = "true";
})();
