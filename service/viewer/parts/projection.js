/**
 * Images on a plane, close where they use the same kernels. They are chosen with a lasso, with a
 * click, or with the keyboard: arrows go from image to image, Space chooses.
 */

/** @import { MapPoint, Size } from "openapi" */

import { groupColor } from "../contrast.js";
import { fresh, h, onWidth, s, style } from "../dom.js";
import { groupName, imageText } from "../figures.js";
import { inside, neighbour } from "../lasso.js";
import { wholeImage } from "../image_view.js";

/** Points that an image is shown wide, at most. */
const SHOWN = 84;
const DRAG_PX = 5;

/**
 * @param {object} of
 * @param {MapPoint[]} of.points
 * @param {Size} of.input the network's input, in pixels.
 * @param {(images: number[]) => void} of.onSelect the chosen images, in the order of the points.
 * @param {() => string|undefined} of.drawing what drawing does where no key says it: it adds
 *   ("add"), takes away ("remove"), or chooses anew.
 * @returns {{element: HTMLElement, show: (images: number[]) => void}}
 */
export function projection({ points, input, onSelect, drawing }) {
  let chosen = new Set();
  let positions = [];
  let at = 0;
  const help = fresh("help");
  const trace = s("path", { class: "lasso" });
  const sheet = s("svg", { class: "sheet", "aria-hidden": "true" }, trace);
  const options = points.map((point, index) =>
    h(
      "div",
      {
        class: "point",
        role: "option",
        tabindex: index === 0 ? "0" : "-1",
        "aria-selected": "false",
        "aria-label": `${imageText(point)}${point.group !== null ? `, group ${groupName(point.group)}` : ""}`,
        title: imageText(point),
        style: { "--group": point.group !== null ? groupColor(point.group) : null },
        onfocus: () => {
          at = index;
        },
      },
      wholeImage({ image: point.image }, { input, alt: "", eager: true, shown: SHOWN }),
      h("span", { class: "tick", "aria-hidden": "true" }, "✓"),
    ),
  );
  const plane = h(
    "div",
    {
      class: "plane",
      role: "listbox",
      "aria-multiselectable": "true",
      "aria-label": "Images of the unit, close where they use the same kernels",
      "aria-describedby": help,
    },
    sheet,
    options,
  );
  const element = h(
    "div",
    null,
    plane,
    h(
      "p",
      { class: "note", id: help },
      "Draw around images to choose them; hold Shift to add, Alt to take away. A click or tap chooses one. Keys: arrows move, Space chooses, Ctrl+A chooses all, Escape none.",
    ),
  );

  const select = (wanted) => {
    show(wanted);
    onSelect(points.map((point) => point.image).filter((image) => chosen.has(image)));
  };
  const toggled = (image) => {
    const next = new Set(chosen);
    if (!next.delete(image)) next.add(image);
    return next;
  };
  function show(wanted) {
    chosen = new Set(wanted);
    options.forEach((option, index) => {
      option.setAttribute("aria-selected", String(chosen.has(points[index].image)));
    });
    plane.classList.toggle("some", chosen.size > 0);
  }

  onWidth(plane, (width) => {
    const height = plane.clientHeight;
    const size = Math.max(36, Math.min(84, width / 11, 600 / Math.sqrt(points.length)));
    positions = positioned(points, { width, height, size });
    options.forEach((option, index) =>
      style(option, {
        width: `${size}px`,
        height: `${size}px`,
        transform: `translate(${positions[index].x - size / 2}px, ${positions[index].y - size / 2}px)`,
      }),
    );
  });

  plane.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) {
      at = neighbour(positions, at, event.key);
      focus(at);
    } else if (event.key === " " || event.key === "Enter") select(toggled(points[at].image));
    else if (event.key === "Escape") select([]);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      select(points.map((point) => point.image));
    } else if (event.key === "Home" || event.key === "End") {
      at = event.key === "Home" ? 0 : points.length - 1;
      focus(at);
    } else return;
    event.preventDefault();
  });
  function focus(index) {
    options.forEach((option, other) =>
      option.setAttribute("tabindex", other === index ? "0" : "-1"),
    );
    options[index].focus();
  }

  lasso(plane, trace, {
    click: (target) => {
      const index = options.indexOf(target.closest(".point"));
      if (index < 0) return;
      at = index;
      focus(index);
      select(toggled(points[index].image));
    },
    along: (polygon) => {
      options.forEach((option, index) =>
        option.classList.toggle("around", inside(polygon, [positions[index].x, positions[index].y])),
      );
    },
    drawn: (polygon, { add, remove }) => {
      const hit = points
        .filter((_, index) => inside(polygon, [positions[index].x, positions[index].y]))
        .map((point) => point.image);
      options.forEach((option) => option.classList.remove("around"));
      if (add || (!remove && drawing() === "add")) select([...chosen, ...hit]);
      else if (remove || drawing() === "remove") select([...chosen].filter((image) => !hit.includes(image)));
      else select(hit);
    },
  });
  return { element, show };
}

/** Turns coordinates into pixels, the same scale across and down, with room for the images. */
function positioned(points, { width, height, size }) {
  const range = (values) => [Math.min(...values), Math.max(...values)];
  const [left, right] = range(points.map((point) => point.x));
  const [low, high] = range(points.map((point) => point.y));
  const scale = Math.min(
    (width - size - 24) / (right - left || 1),
    (height - size - 24) / (high - low || 1),
  );
  return points.map((point) => ({
    x: width / 2 + (point.x - (left + right) / 2) * scale,
    y: height / 2 - (point.y - (low + high) / 2) * scale,
  }));
}

/** Follows the pointer: a short press is a click, a longer way a line around something. */
function lasso(plane, trace, { click, along, drawn }) {
  let path = null;
  const spot = (event) => {
    const box = plane.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const end = () => {
    path = null;
    trace.removeAttribute("d");
    plane.classList.remove("drawing");
  };
  plane.addEventListener("pointerdown", (event) => {
    // A second finger is none that draws.
    if (event.button !== 0 || !event.isPrimary) return;
    path = { points: [spot(event)], target: event.target, far: false };
    plane.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  plane.addEventListener("pointermove", (event) => {
    if (!path || !event.isPrimary) return;
    const [x, y] = spot(event);
    path.points.push([x, y]);
    const [startX, startY] = path.points[0];
    path.far ||= Math.hypot(x - startX, y - startY) > DRAG_PX;
    if (!path.far) return;
    plane.classList.add("drawing");
    trace.setAttribute("d", `M${path.points.map((p) => p.join(",")).join("L")}Z`);
    along(path.points);
  });
  plane.addEventListener("pointerup", (event) => {
    if (!path || !event.isPrimary) return;
    const { points, target, far } = path;
    end();
    if (far) drawn(points, { add: event.shiftKey, remove: event.altKey });
    else click(target);
  });
  plane.addEventListener("pointercancel", (event) => event.isPrimary && end());
}
