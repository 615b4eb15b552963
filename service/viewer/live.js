/** Says what changed to those who do not see it change. */

let pending = 0;

/** Says a sentence politely. Of several in a row, as while dragging, only the last is said. */
export function announce(text) {
  clearTimeout(pending);
  pending = setTimeout(() => {
    document.getElementById("live").textContent = text;
  }, 250);
}

/** Notes the moment at which the page shows what it is for; measured by the tests. */
export function useful(page) {
  requestAnimationFrame(() => {
    performance.mark("useful", { detail: page });
    document.documentElement.dataset.useful = page;
  });
}
