"""Make an environment of its own with lava-dl: ``python tools/lava_dl_env.py FOLDER`` (some 6 GB).

lava-dl 0.6.0 asks for torch below 2.4 and Python 3.10, so it cannot stand beside us. Here its torch is
ours, which its netx and its own tests take. ``NEUROCOMPILE_LAVA_DL=FOLDER/bin/python pytest --slow
--nightly tests/frontends/test_netx.py`` then compares our import with netx on Lava's runtime.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lava-dl==0.6.0", "setuptools<81")
"""setuptools: torch's extensions need ``pkg_resources``, and lava-dl does not say so."""


def pinned(package: str) -> str:
    """Our pin of ``package`` for Python 3.10."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(rf"\"({package}==[\d.]+)(?: ; python_full_version < '3\.11')?\"", text)
    if found is None:
        raise SystemExit(f"pyproject.toml pins no {package} for Python 3.10")
    return found[1]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    python = folder / "bin" / "python"
    subprocess.run(["uv", "venv", "--quiet", "--python", "3.10", str(folder)], check=True)
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(pinned(p) for p in ("torch", "torchvision")) + "\n")
    install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "--override", str(overrides), *PACKAGES], check=True)
    subprocess.run([str(python), "-c", "import lava.lib.dl.netx.hdf5"], check=True)
    print(python)


if __name__ == "__main__":
    main()
