"""One page with everything in it: styles, renderer, numbers, images. It makes no request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from html import escape
from importlib.resources import files

from circuit_atlas.service.circuit.display import size
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.modules import join
from circuit_atlas.service.diagram.node_images import NodeImages, data_url, used_images

MOST_FEATURES = 300
"""Feature visualizations in one page, at most: some 5 MB."""
_THREADS = 8
_VIEWER = files("circuit_atlas.service") / "viewer"

_START = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const nodeImages = read("node-images");
const diagram = new Diagram(document.getElementById("diagram"), read("content"), {
  imageUrl: (image) => nodeImages.images[image],
  featureUrl: (node) => nodeImages.features[`${node.convolution ?? node.kind}:${node.channel}`],
  state: Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
  // In a frame of a notebook, which is to scroll and has no address to keep the state in.
  wheel: window === window.top ? "always" : "focus",
  onState: (state) => location.protocol === "about:" ||
    history.replaceState(null, "", `#${new URLSearchParams(state)}`),
});
"""
_PAGE_CSS = """
html { background: var(--surface); }
body { margin: 0; padding: 0.9rem clamp(0.6rem, 2vw, 1.6rem) 1.2rem; background: var(--surface);
  color: var(--ink); font: 400 0.8125rem/1.4 var(--sans); }
h1 { margin: 0 0 0.1rem; font-size: 1.0625rem; font-weight: 600; overflow-wrap: anywhere; }
.about { margin: 0 0 0.7rem; color: var(--ink-3); }
:root { --ca-stage: max(22rem, calc(100vh - 13.5rem)); }
"""


def page(content: Content, node_images: NodeImages) -> str:
    """Return the whole document.

    Only the images of drawn nodes are in it, each once; visualizations of the nodes with the
    largest shares, the others show their crops there.
    """
    images = {
        str(image): data_url(data, "jpeg")
        for image, data in node_images.jpegs(used_images(content)).items()
    }
    share = content.nodes.share
    shown = sorted(node_images.features, key=lambda node: -share[node])[:MOST_FEATURES]
    with ThreadPoolExecutor(_THREADS) as pool:  # object stores and servers answer late
        pngs = list(pool.map(node_images.png, shown))
    features = {
        _name(content, node): data_url(png, "png") for node, png in zip(shown, pngs, strict=True)
    }
    held = json.dumps({"images": images, "features": features}, separators=(",", ":"))
    renderer = join(_VIEWER, "diagram/diagram.js", names=("Diagram",))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(content.title)}</title>",
        # An empty icon, so that the browser does not ask for one.
        '<link rel="icon" href="data:,">',
        f"<style>{_viewer('tokens.css')}{_viewer('diagram.css')}{_PAGE_CSS}</style></head><body>",
        f"<h1>{escape(content.title)}</h1>",
        f'<p class="about">{escape(content.model)}{{about}}</p>',
        '<main id="diagram"></main>',
        "<noscript><p>This page draws with JavaScript. Saved as .svg or .png, the diagram shows "
        "without.</p></noscript>",
        f'<script type="application/json" id="content">{_inert(content.to_json())}</script>',
        f'<script type="application/json" id="node-images">{_inert(held)}</script>',
        f'<script type="module">{renderer}{_START}</script>',
        "</body></html>\n",
    ]
    whole = sum(len(part.encode()) for part in parts)
    pieces = f"{len(images)} images" if images else "no images"
    pieces += f" and {len(features)} feature visualizations" if features else ""
    parts[7] = parts[7].replace("{about}", f" · this page holds {pieces}, {size(whole)} in all")
    return "\n".join(parts)


def _viewer(name: str) -> str:
    return _VIEWER.joinpath(name).read_text(encoding="utf-8")


def _inert(text: str) -> str:
    """JSON that no HTML parser takes for the end of its script, or for a comment."""
    return text.replace("<", "\\u003c")


def _name(content: Content, node: int) -> str:
    band = content.bands[content.nodes.band[node]]
    return f"{band.name if band.kind == 'channel' else band.kind}:{content.nodes.channel[node]}"
