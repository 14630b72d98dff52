"""The table of forms in docs/import.md: its rows, and that each is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from import_forms import FORMS, Net, T, table  # noqa: E402

from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.frontends.agreement import check_import  # noqa: E402
from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.options import BuildOptions  # noqa: E402

X = np.random.default_rng(0).random((4, 1, 6, 6)).astype("float32")


def test_the_documents_have_the_table():
    page = Path(__file__).parents[2] / "docs" / "import.md"
    assert table() in page.read_text(), "put import_forms.table() into docs/import.md"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMS))
def test_what_becomes_of_a_form(name):
    form = FORMS[name]
    net = Net(form).eval()
    if form.result.startswith("NC"):
        with pytest.raises(NeurocompileError) as caught:
            open_model(net, X, BuildOptions(T=T), calibration=X)
        assert caught.value.code == form.result
        return
    model = open_model(net, X, BuildOptions(T=T), calibration=X)
    assert check_import(model) == 1  # every spike, and the outputs
    assert (model.host is not None) == (form.result == "host")
