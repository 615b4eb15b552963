/** Light or dark: the system's, or the reader's own choice, which this browser remembers. */

import { h } from "./dom.js";

const CHOICES = { auto: "Auto", light: "Light", dark: "Dark" };
const KEY = "circuit-atlas-theme";

function stored() {
  try {
    const found = localStorage.getItem(KEY);
    return found in CHOICES ? found : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
}

function show(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

/** Makes the button in the bar, which goes through the choices. */
export function themeButton() {
  let choice = stored();
  show(choice);
  const names = Object.keys(CHOICES);
  const button = h("button", { class: "button plain theme", type: "button" });
  const label = () => {
    button.textContent = CHOICES[choice];
    const next = names[(names.indexOf(choice) + 1) % names.length];
    button.title = `Theme: ${CHOICES[choice]}. Next: ${CHOICES[next]}`;
    button.setAttribute("aria-label", `Theme: ${CHOICES[choice]}`);
  };
  button.addEventListener("click", () => {
    choice = names[(names.indexOf(choice) + 1) % names.length];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Not remembered, but shown.
    }
    show(choice);
    label();
  });
  label();
  return button;
}
