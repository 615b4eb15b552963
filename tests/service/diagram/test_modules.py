"""Modules joined into one script: in order, each a scope of its own, and no form guessed at."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from circuit_atlas.service.diagram.modules import join, split
from tests.chromium import chromium, in_chromium, new_context


def write(folder: Path, **modules: str) -> Path:
    """`parts_a="..."` is the file parts/a.js."""
    for name, text in modules.items():
        path = folder / f"{name.replace('_', '/')}.js"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@in_chromium
def test_what_is_joined_runs_in_order_and_names_do_not_clash(tmp_path):
    folder = write(
        tmp_path,
        names="""
            /* Two modules and the page have a `held` of their own. */
            const held = [];
            export const note = (text) => held.push(text);
            export async function noted() { return held.join(); }
        """.replace("            ", ""),
        parts_first="""
            /** Comes before what imports it. */
            import { note } from "../names.js";

            const held = "first";
            note(held);
            export class First { name = held; }
        """.replace("            ", ""),
        parts_last="""
            // A list of several lines, and a comment between.
            import {
              note,
              noted,
            } from "../names.js";
            // The other.
            import { First } from "./first.js";

            let held = "last";
            note(held);
            export function all() { return noted().then((text) => `${text} ${new First().name}`); }
        """.replace("            ", ""),
    )
    script = join(folder, "parts/last.js", names=("all",))
    with chromium() as browser:
        page = new_context(browser).new_page()
        page.set_content(
            f'<script type="module">{script} const held = "page"; window.told = await all() + held;'
            "</script>"
        )
        page.wait_for_function("window.told")
        assert page.evaluate("window.told") == "first,last firstpage"


@in_chromium
def test_what_is_imported_later_runs_once_and_shares_what_ran(tmp_path):
    """Of two later scripts, one in a folder; what both need, and what the first has, runs once. The
    one in the folder asks for a third."""
    folder = write(
        tmp_path,
        app="""
            import { count } from "./state.js";
            const both = [import("./parts/later.js"), import("./other.js")];
            Promise.all(both).then(async ([{ added, last }, { more }]) => {
              window.told = [count("app"), added(), more(), (await last()).third()].join();
            });
        """.replace("            ", ""),
        state="const seen = [];\nexport const count = (who) => seen.push(who);\n",
        both="""
            import { count } from "./state.js";
            count("both");
            export const both = "both";
        """.replace("            ", ""),
        other="""
            import { both } from "./both.js";
            import { count } from "./state.js";
            export const more = () => count(both);
        """.replace("            ", ""),
        parts_later="""
            import { both } from "../both.js";
            import { count } from "../state.js";
            export const added = () => count(both);
            export const last = () => import("../ends/third.js");
        """.replace("            ", ""),
        ends_third="""
            import { both } from "../both.js";
            import { count } from "../state.js";
            export const third = () => count(both);
        """.replace("            ", ""),
    )
    scripts = split(folder, "app.js", name="first.js")
    assert sorted(scripts) == ["ends/third.js", "first.js", "other.js", "parts/later.js"]

    def answer(route) -> None:
        name = route.request.url.removeprefix("http://127.0.0.1/")
        page = '<script type="module" src="first.js"></script>'
        kind = "text/javascript" if name else "text/html"
        route.fulfill(body=scripts[name] if name else page, content_type=kind)

    with chromium() as browser:
        page = new_context(browser).new_page()
        page.route("**/*", answer)
        page.goto("http://127.0.0.1/")
        page.wait_for_function("window.told")
        assert page.evaluate("window.told") == "2,3,4,5"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ('import x from "./b.js";', "import x from"),
        ('import * as x from "./b.js";', "import * as x"),
        ('import "./b.js";', 'import "./b.js"'),
        ('import { x } from "library";', 'from "library"'),
        ("import { x } from './b.js';", "from './b.js'"),
        ('import { x as y } from "./b.js";', "'x as y' is not a plain name"),
        ('import {} from "./b.js";', "'' is not a plain name"),
        ('const y = 1;\nimport { x } from "./b.js";', "import { x } from"),
        ('const { x } = await import("./b.js");', 'import("./b.js")'),
        ("const here = import.meta.url;", "import.meta.url"),
        ("export default class A {}", "export default"),
        ("export { y };\nconst y = 1;", "export { y }"),
        ('export * from "./b.js";', "export *"),
        ("export let y = 1;", "export let y"),
        ("export const { y } = { y: 1 };", "export const { y }"),
        ("export function* y() {}", "export function* y"),
        ("{\n  export const y = 1;\n}", "export const y"),
        ('const end = "</script>";', "</script>"),
        ('const open = "<!--";', "<!--"),
        ('import { missing } from "./b.js";', "a.js imports missing, which b.js does not export"),
        ('import { x } from "./c.js";', "a.js imports c.js, and there is no such file"),
        ('import { x } from "../b.js";', "a.js imports ../b.js, and there is no such file"),
        ('import { x } from "./a.js";', "a.js imports a.js: modules in a circle"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, statement, told):
    folder = write(tmp_path, a=f"{statement}\nexport const a = 1;\n", b="export const x = 1;\n")
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        join(folder, "a.js", names=("a",))
    assert "a.js" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_circle_of_several_is_told_whole(tmp_path):
    imports = '{{ {0} }} from "./{0}.js";\nexport const {1} = 1;\n'
    folder = write(
        tmp_path,
        a="import " + imports.format("b", "a"),
        b="import " + imports.format("c", "b"),
        c="import " + imports.format("a", "c"),
    )
    with pytest.raises(ValueError, match=r"a\.js imports b\.js imports c\.js imports a\.js"):
        join(folder, "a.js", names=("a",))


def test_a_name_that_the_page_wants_has_to_be_there(tmp_path):
    folder = write(tmp_path, a="export const a = 1;\n")
    with pytest.raises(ValueError, match=r"the page imports b, which a\.js does not export"):
        join(folder, "a.js", names=("b",))
    with pytest.raises(ValueError, match=r"the page imports none\.js, and there is no such file"):
        join(folder, "none.js", names=("a",))


def test_every_module_of_the_diagram_is_joined_once():
    viewer = files("circuit_atlas.service") / "viewer"
    script = join(viewer, "diagram/diagram.js", names=("Diagram",))
    joined = re.findall(r'^modules\["(.+)"\] = ', script, re.M)
    assert len(joined) == len(set(joined))
    own = {f"diagram/{path.name}" for path in (viewer / "diagram").iterdir()}
    assert own <= set(joined)
    assert joined[-1] == "diagram/diagram.js"
