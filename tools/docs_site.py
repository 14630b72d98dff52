"""What the site (mkdocs.yml) has beside docs/: README, changes, models' cards, and the references of
commands and Python, made from the code. A hook of mkdocs.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
COPIED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        str(card.relative_to(ROOT)): f"zoo-{card.parent.name}.md"
        for card in sorted((ROOT / "models" / "zoo").glob("*/card.md"))
    },
}
"""File of the repository -> page."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)]*)?\)")
ROLE = re.compile(r":\w+:`~?([^`]+)`")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that docs/ does not hold."""
    for source, page in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=linked(text, source)))
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "python.md", content="\n".join(python())))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links of docs/ to files beside it."""
    source = page.file.src_uri
    return markdown if page.file.generated_by else linked(markdown, f"docs/{source}")


def linked(text: str, source: str) -> str:
    """``text`` of the file ``source`` with its links as the site has them; of what is no page, the
    words alone.
    """

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in COPIED:
            return f"{picture}[{words}]({COPIED[path]}{anchor})"
        if path.startswith("docs/"):
            return f"{picture}[{words}]({path[5:]}{anchor})"
        if not (ROOT / path).exists():
            raise ValueError(f"{source}: link to '{target}', which is not there")
        return f"{words} (`{path}`)" if words.strip("`") != path else words

    return LINK.sub(link, text)


def commands() -> str:
    """The manual of the command line."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("commands", ROOT / "tools" / "commands.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.reference())


def python() -> Iterator[str]:
    """Names of the package with their signatures and docstrings."""
    import neurocompile
    from neurocompile import backends, compat, qat

    yield "# Python\n\nEverything that the command line does, under the same names.\n"
    for module in (neurocompile, qat, compat, backends):
        names = [n for n in getattr(module, "__all__", dir(module)) if not n.startswith("_")]
        things = [(n, getattr(module, n)) for n in sorted(names, key=str.lower)]
        documented = [(n, t) for n, t in things if callable(t) and inspect.getdoc(t)]
        if documented:
            yield f"## {module.__name__}\n"
        for name, thing in documented:
            yield from entry(f"{module.__name__}.{name}", thing)


def entry(name: str, thing: Any) -> Iterator[str]:
    """One function or class, and the public methods of a class."""
    yield f"### {name}\n"
    yield f"```python\n{name.rpartition('.')[2]}{signature(thing)}\n```\n"
    yield f"{described(thing)}\n"
    if not inspect.isclass(thing):
        return
    for key, member in sorted(vars(thing).items()):
        function = member.fget if isinstance(member, property) else member
        if key.startswith("_") or not callable(function) or not inspect.getdoc(function):
            continue
        shown = "" if isinstance(member, property) else signature(function)
        yield f"**`{key}`**\n\n```python\n{key}{shown}\n```\n\n{described(function)}\n"


def signature(thing: Any) -> str:
    """As Python shows it; long ones a parameter a line."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(found))
    if len(text) < 90:
        return text
    parameters = ",\n    ".join(
        re.sub(r" at 0x[0-9a-f]+", "", str(p)) for p in found.parameters.values()
    )
    return f"(\n    {parameters},\n)"


def described(thing: Any) -> str:
    """The docstring as Markdown: sections in bold, indented parts as lists."""
    text = ROLE.sub(lambda m: f"`{m[1].rpartition('.')[2]}`", inspect.getdoc(thing) or "")
    lines, section = [], False
    for line in text.replace("``", "`").splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Yields):", line):
            section = True
            lines += [f"**{line}**", ""]
        elif section and re.match(r"    \S", line):
            lines.append(f"- {line.strip()}")
        elif section and line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            section = section and not line.strip()
            lines.append(line)
    return "\n".join(lines)
