"""``python -m neurocompile``: the command line."""

from __future__ import annotations

import sys

from neurocompile.cli import main

sys.exit(main())
