"""Makes the gallery: `python docs/gallery/make.py [FOLDER]`, some minutes on an idle core or two.

Pictures and atlas go into FOLDER, by default `build/gallery`; a run that was stopped goes on where
it stopped. Figures, their numbers and README.md are written beside this file; README.md is
stories.md with the numbers filled in. Needs `circuit-atlas[demo,docs]`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
NUMBERS = FIGURES / "numbers.json"
_NAMES = (
    "unit.svg",
    "unit-circuit.svg",
    "groups.svg",
    "groups-a.svg",
    "groups-b.svg",
    "kernel.svg",
    "kernel-circuits.svg",
)


def main(folder: Path) -> None:
    """Builds the atlas in a folder, and writes figures, numbers and page."""
    # Here, so that the page can be filled in without torch.
    from atlas import built
    from stories import Gallery, groups_story, kernel_story, unit_story

    FIGURES.mkdir(exist_ok=True)
    gallery = Gallery(built(folder), folder / "pictures", FIGURES)
    numbers = {
        "one": unit_story(gallery),
        "two": groups_story(gallery),
        "three": kernel_story(gallery),
        "figures": {
            name: hashlib.sha256((FIGURES / name).read_bytes()).hexdigest() for name in _NAMES
        },
    }
    NUMBERS.write_text(json.dumps(numbers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (HERE / "README.md").write_text(page(numbers), encoding="utf-8")


def page(numbers: Mapping[str, Mapping[str, str]]) -> str:
    """Fills numbers into the text: `{one[r]}` is the number `r` of story one."""
    return (HERE / "stories.md").read_text(encoding="utf-8").format_map(numbers)


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "build/gallery"))
