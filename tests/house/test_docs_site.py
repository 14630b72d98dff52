"""The docs as a site: every page is reached, no link is dead, the references are complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import neurocompile

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
ROOT = Path(__file__).parents[2]
if not (ROOT / "mkdocs.yml").is_file():
    pytest.skip("a plain install has no docs", allow_module_level=True)


@pytest.fixture(scope="module")
def hook():
    spec = spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_to_pages_or_are_words(hook) -> None:
    text = "[a](docs/import.md#forms), [b](models/zoo/sst2/card.md), [run](examples/notebooks), [x](https://x.org/y)"
    expected = (
        "[a](import.md#forms), [b](zoo-sst2.md), run (`examples/notebooks`), [x](https://x.org/y)"
    )
    assert hook.linked(text, "README.md") == expected
    assert (
        hook.linked("[card](../models/zoo/digits/card.md)", "docs/x.md") == "[card](zoo-digits.md)"
    )
    with pytest.raises(ValueError, match="link to 'docs/../gone.md', which is not there"):
        hook.linked("[a](docs/../gone.md)", "README.md")


def test_python_reference_has_every_public_name(hook) -> None:
    text = "\n".join(hook.python())
    for name in neurocompile.__all__:
        assert f"### neurocompile.{name}\n" in text, name
    assert ":class:`" not in text and " at 0x" not in text


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "commands", "python"}
    assert pages <= {path.stem for path in tmp_path.glob("*.html")}
    assert (tmp_path / "qkformer-4-256-loihi2.html").is_file()
    found = json.loads((tmp_path / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("frames_from_events" in entry["title"] for entry in found["docs"])
    sources = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")]
    assert not any("fonts.googleapis" in source for source in sources)
