"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  document.documentElement.classList.add("live");

  // Tables: a heading sorts by its column; pressed again, the other way round.
  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.v;
    return value === undefined ? cell.textContent.trim() : Number(value);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return a - b;
  };
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = Array.from(body.rows, (row) => [key(row, column), row]);
        rows.sort((a, b) => down * compare(a[0], b[0]));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  // Commands and parameters: a button that copies them.
  const copy = async (source) => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(source);
      return false;
    }
  };
  for (const source of all("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.setAttribute("aria-label", source.tagName === "CODE" ? `copy ${source.textContent}` : "copy this text");
    source.after(button);
    button.addEventListener("click", async () => {
      button.textContent = (await copy(source)) ? "copied" : "selected";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  // Sounds of one utterance: starting one stops the others and goes on from the same moment.
  for (const group of all(".players")) {
    const players = all("audio", group);
    for (const player of players) {
      player.addEventListener("play", () => {
        const running = players.find((other) => other !== player && !other.paused);
        if (!running) return;
        const at = running.currentTime;
        players.forEach((other) => { if (other !== player) other.pause(); });
        if (at < player.duration) player.currentTime = at;
      });
    }
  }

  // Print everything, folded or not.
  addEventListener("beforeprint", () => all("details").forEach((item) => { item.open = true; }));
})();
