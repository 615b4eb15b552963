"""Modules of the viewer as one script, or as one and those that it imports later.

A small part of what JavaScript calls modules is known here, and all else is refused: imports of
names from other files, at the head of a file, and exports of classes, functions and constants
where these are declared; in a page that can ask for files, `import("./other.js")` as well. Each
module stays a scope of its own, so that two may use one name.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from importlib.resources.abc import Traversable

_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_IMPORT = re.compile(r'import \{([^{}]*)\} from "(\.{1,2}/[^"]+)";\n')
_EXPORT = re.compile(
    rf"^export (?=(?:class|function|async function|const) ({_NAME.pattern})\b)", re.M
)
_LATER = re.compile(r'\bimport\("(\.{1,2}/[^"]+)"\)')
_COMMENT = re.compile(r"\s+|/\*.*?\*/|//[^\n]*\n", re.S)
_UNKNOWN = re.compile(
    r"^[ \t]*(?:import|export)\b.*|\bimport\s*[(.].*|</script.*|<!--.*", re.M | re.I
)
_PAGE = "the page"


@dataclass(frozen=True)
class _Module:
    path: str
    imports: tuple[tuple[tuple[str, ...], str], ...]
    exports: tuple[str, ...]
    body: str
    later: tuple[str, ...]


def join(folder: Traversable, entry: str, *, names: tuple[str, ...]) -> str:
    """Join into one script what has `names` of the module `entry` in `folder`, and needs no other
    file.

    ValueError, at once, where a module holds what is not known here, is not there, or is part of a
    circle.
    """
    found: dict[str, _Module] = {}
    _collect(folder, entry, found, above=())
    for path, module in found.items():
        for other in module.later:
            raise ValueError(f'{path} has import("./{other}"), and a single script has no other')
    scopes = [_scope(module, found) for module in found.values()]
    return "\n".join(["const modules = {};", *scopes, _taken(found, names, entry, _PAGE), ""])


def split(folder: Traversable, entry: str, *, name: str) -> dict[str, str]:
    """Make the script of the module `entry`, to be sent as `name`, and one of each module that is
    imported later, to be sent by its path; all relative to one folder.

    No module runs twice: a later script takes what the first has, and leaves what another has run.
    ValueError as of `join`.
    """
    first: dict[str, _Module] = {}
    _collect(folder, entry, first, above=())
    scopes = [_scope(module, first, script=name) for module in first.values()]
    scripts = {name: "\n".join(["const modules = {};", *scopes, "export { modules };", ""])}
    wanted = [path for module in first.values() for path in module.later]
    while wanted:
        path = wanted.pop()
        if path in scripts:
            continue
        found = dict(first)
        _collect(folder, path, found, above=(entry,))
        own = [module for module in found.values() if module.path not in first]
        scripts[path] = "\n".join(
            [
                f'import {{ modules }} from "{_from(path, name)}";',
                *(_scope(module, found, held="??=", script=path) for module in own),
                f"export {_taken(found, found[path].exports, path, _PAGE)}",
                "",
            ]
        )
        wanted += [other for module in own for other in module.later]
    return scripts


def _collect(
    folder: Traversable, path: str, found: dict[str, _Module], *, above: tuple[str, ...]
) -> None:
    """Adds a module to `found` after all that it imports, the order in which browsers run them."""
    if path in above:
        raise ValueError(f"{' imports '.join((*above, path))}: modules in a circle are not joined")
    if path in found:
        return
    module = _module(folder, path, of=above[-1] if above else _PAGE)
    for _, other in module.imports:
        _collect(folder, other, found, above=(*above, path))
    found[path] = module


def _module(folder: Traversable, path: str, *, of: str) -> _Module:
    file = folder.joinpath(*path.split("/"))
    if path.startswith("..") or not file.is_file():
        raise ValueError(f"{of} imports {path}, and there is no such file among the modules")
    text = file.read_text(encoding="utf-8")
    imports = []
    at = 0
    while True:
        if (comment := _COMMENT.match(text, at)) is not None:
            at = comment.end()
        elif (imported := _IMPORT.match(text, at)) is not None:
            names = tuple(name.strip() for name in imported[1].rstrip(", \n").split(","))
            _only_names(names, path, imported[0])
            imports.append((names, _at_root(imported[2], path)))
            at = imported.end()
        else:
            break
    later = tuple(_at_root(name, path) for name in _LATER.findall(text[at:]))
    rest = _LATER.sub(lambda match: f'import("./{_at_root(match[1], path)}")', text[at:])
    body = _EXPORT.sub("", rest)
    if (unknown := _UNKNOWN.search(_LATER.sub("", body))) is not None:
        raise ValueError(f"{path} has {unknown[0].strip()!r}, and it is not known how to join that")
    return _Module(path, tuple(imports), tuple(_EXPORT.findall(rest)), body, later)


def _at_root(name: str, path: str) -> str:
    """Gives the path of a module that the module at `path` calls by `name`."""
    return posixpath.normpath(posixpath.join(path, "..", name))


def _from(script: str, path: str) -> str:
    """Gives what a script calls another by; both by their paths from the root."""
    found = posixpath.relpath(path, posixpath.dirname(script) or ".")
    return found if found.startswith(".") else f"./{found}"


def _only_names(names: tuple[str, ...], path: str, statement: str) -> None:
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{path} has {statement.strip()!r}: {name!r} is not a plain name")


def _scope(module: _Module, found: dict[str, _Module], *, held: str = "=", script: str = "") -> str:
    heads = [_taken(found, names, other, module.path) for names, other in module.imports]
    body = _LATER.sub(lambda match: f'import("{_from(script, match[1][2:])}")', module.body)
    return "\n".join(
        [
            f'modules["{module.path}"] {held} (() => {{',
            *heads,
            body.rstrip("\n"),
            f"return {{ {', '.join(module.exports)} }};",
            "})();",
        ]
    )


def _taken(found: dict[str, _Module], names: tuple[str, ...], path: str, of: str) -> str:
    missing = [name for name in names if name not in found[path].exports]
    if missing:
        raise ValueError(f"{of} imports {', '.join(missing)}, which {path} does not export")
    return f'const {{ {", ".join(names)} }} = modules["{path}"];'
