"""An example of each command, for its page: of the demo's atlas, or of a spec of one's own."""

from __future__ import annotations

EXAMPLES = {
    "plan": """\
circuit-atlas plan spec.toml
circuit-atlas plan spec.toml --units 0:64:8 --json""",
    "build": """\
circuit-atlas build spec.toml
circuit-atlas build spec.toml --executor local --max-units 100""",
    "compare": """\
circuit-atlas compare circuit-atlas-demo --out comparison""",
    "transfer": """\
circuit-atlas transfer spec.toml features.7.expand3x3 64 --numbers 1,4 --repeats 2""",
    "features": """\
circuit-atlas features spec.toml --executor local""",
    "submit": """\
# Needs a Ray cluster, here at HOST.
circuit-atlas submit spec.toml --address http://HOST:8265""",
    "status": """\
circuit-atlas status circuit-atlas-demo""",
    "show": """\
circuit-atlas show circuit-atlas-demo
circuit-atlas show circuit-atlas-demo features.7.expand3x3
circuit-atlas show circuit-atlas-demo features.7.expand3x3 80 --keep 0.1 --criterion random""",
    "find": """\
circuit-atlas find circuit-atlas-demo expand3x3""",
    "open": """\
circuit-atlas open circuit-atlas-demo""",
    "serve": """\
circuit-atlas serve circuit-atlas-demo --port 8000""",
    "sql": """\
circuit-atlas sql circuit-atlas-demo "SELECT unit, kernels, pearson FROM faithfulness LIMIT 5\"""",
    "diagram": """\
circuit-atlas diagram circuit-atlas-demo features.7.expand3x3 80 --output unit80.html
circuit-atlas diagram circuit-atlas-demo features.7.expand3x3 80 --keep 0.1 --hide inhibition \\
    --width-mm 84 --output unit80.svg
circuit-atlas diagram circuit-atlas-demo features.7.expand3x3 80 --against 64 --output both.png""",
    "extract": """\
circuit-atlas extract circuit-atlas-demo features.7.expand3x3 80 --keep 0.1 --output unit80.pt2""",
    "export": """\
circuit-atlas export circuit-atlas-demo features.7.expand3x3 summary --output units.csv
circuit-atlas export circuit-atlas-demo features.7.expand3x3 masks --keep 0.1 --output masks.npz
circuit-atlas export circuit-atlas-demo features.7.expand3x3 kernels 80 --output unit80.parquet
circuit-atlas export circuit-atlas-demo features.7.expand3x3 figure 80 --output unit80.svg""",
    "verify": """\
circuit-atlas verify circuit-atlas-demo""",
    "repair": """\
circuit-atlas repair circuit-atlas-demo --dry-run
circuit-atlas repair circuit-atlas-demo --spec spec.toml --executor local""",
    "compact": """\
circuit-atlas compact circuit-atlas-demo""",
    "delete-old-generations": """\
circuit-atlas delete-old-generations circuit-atlas-demo --older-than 48""",
    "delete-set-aside": """\
circuit-atlas delete-set-aside circuit-atlas-demo --older-than 0""",
    "demo": """\
circuit-atlas demo
circuit-atlas demo --units 4 --executor local --store four-units""",
}
"""Command -> lines of a shell. What a line needs that not everybody has is said in a comment."""
