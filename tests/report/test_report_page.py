"""The HTML page: the same bytes each time, hostile names stay text, sizes stay small, and a browser
shows it.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

import neurocompile
from neurocompile.energy.activity import modelled_activity
from neurocompile.energy.counts import count
from neurocompile.energy.profile import Profile, list_profiles, load_profile
from neurocompile.energy.report import count_program
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph, GradedRelay, HostInput, Strided
from neurocompile.ir.text import Ref
from neurocompile.mapping import Mapping
from neurocompile.mapping.mapping import CoreUse
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.traffic import Traffic
from neurocompile.program import Program
from neurocompile.report.page import page_of, render_page, write_page
from neurocompile.report.page_data import page_data
from neurocompile.targets import load_target
from neurocompile.targets.schema import Energy

pytest.importorskip("jinja2", reason="needs the extra report")

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"
ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&{{7*7}}"


@pytest.fixture(scope="module")
def program() -> Program:
    return neurocompile.compile(ZOO / "qkformer.onnx")


@pytest.fixture(scope="module")
def page(program: Program) -> str:
    with np.load(ZOO / "test.npz") as archive:
        counts = count_program(program, archive["x"][:3])
    return render_page(program, counts, [load_profile(n) for n in list_profiles()])


def renamed(program: Program) -> Program:
    """The program with hostile names of its model, of a layer and of a population."""
    circuit = program.circuit
    target = next(p for p in circuit.populations if not isinstance(p, HostInput))
    old = target.name
    populations = tuple(
        dataclasses.replace(p, name=ATTACK, layer=ATTACK) if p is target else p
        for p in circuit.populations
    )
    projections = tuple(
        dataclasses.replace(
            q,
            src=Ref(ATTACK) if q.src == old else q.src,
            dst=Ref(ATTACK) if q.dst == old else q.dst,
        )
        for q in circuit.projections
    )
    views = tuple(
        dataclasses.replace(v, src=Ref(ATTACK), layer=ATTACK) if v.src == old else v
        for v in circuit.views
    )
    cores = tuple(
        msgspec.structs.replace(
            c,
            tiles=tuple(
                msgspec.structs.replace(t, population=ATTACK) if t.population == old else t
                for t in c.tiles
            ),
        )
        for c in program.mapping.cores
    )
    rates = {ATTACK if k == old else k: v for k, v in program.manifest.rates.items()}
    return dataclasses.replace(
        program,
        circuit=circuit.replace(populations=populations, projections=projections, views=views),
        mapping=msgspec.structs.replace(program.mapping, cores=cores),
        manifest=msgspec.structs.replace(program.manifest, model=ATTACK, rates=rates),
    )


def test_says_what_ran_and_loads_nothing(program: Program, page: str) -> None:
    assert (
        "NOT hardware" in page
        and "default-src &#39;none&#39;" not in page
        and "default-src 'none'" in page
    )
    assert (
        not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
        and "http://www.w3.org/2000/svg" in page
    )
    assert not re.findall(r"https?://(?!www\.w3\.org/)", page) and len(page) < 100_000
    for name in (
        *list_profiles(),
        "Corollary 9",
        "measured",
        "modelled",
        "bound",
        "NeuroBench",
        "Parity",
    ):
        assert name in page


def test_a_profile_that_prices_nothing_has_a_page(program: Program) -> None:
    with np.load(ZOO / "test.npz") as archive:
        counts = count_program(program, archive["x"][:1])
    free = Profile(
        name="free", description="no price known", hardware="none", targets=(), energy=Energy()
    )
    page = render_page(program, counts, [free])
    assert "no price known" in page and "free" in page


def test_says_that_counts_are_of_core_images(program: Program) -> None:
    x = np.random.default_rng(0).random((2, *program.input_shape), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values outside of the calibrated range
        counted, measured = (
            page_of(program, x, ("davies2018",), on_cores=on_cores) for on_cores in (True, False)
        )
    assert "counted on core images, 2 samples" in counted
    assert "counted on core images" not in measured
    with pytest.raises(NeurocompileError, match="NC1015.*give x"):
        page_of(program, on_cores=True)


def test_same_bytes(program: Program, tmp_path: Path) -> None:
    counts, profiles = count_program(program), [load_profile("davies2018")]
    texts = [
        render_page(program, counts, profiles),
        render_page(program, count_program(program), profiles),
    ]
    assert texts[0] == texts[1]
    write_page(texts[0], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == texts[0] and len(list(tmp_path.iterdir())) == 1


def test_hostile_names_stay_text(program: Program) -> None:
    text = render_page(
        renamed(program), count_program(renamed(program)), [load_profile("davies2018")]
    )
    assert "<img" not in text and text.count("<script") == 2 and text.count("</script") == 2
    assert "{{7*7}}" in text


@pytest.mark.slow
def test_budget_and_parity_have_their_places(program: Program) -> None:
    """The budget is that of the program; the numbers on the page are its own."""
    from neurocompile.parity.report import BackendParity, ParityReport

    parity = ParityReport(
        "m", 4, (BackendParity("lava", "Lava", "emulator", 3, 2, 100, 0, None, 0.1),), None
    )
    counts, profiles = count_program(program), [load_profile("davies2018")]
    assert "Spike budget" not in render_page(program, counts, profiles)
    built = neurocompile.compile(ZOO / "qkformer.onnx", budget="spikes=4000")
    text = render_page(built, count_program(built), profiles, parity=parity)
    found = built.manifest.budget
    assert found is not None and found.exceeding
    assert (
        "Spike budget" in text and "<b>Exact</b>" in text and f"<b>{found.total:,.0f}</b>" in text
    )
    assert all(f"<span>{share.layer}</span>" in text for share in found.exceeding[:3])
    assert (
        f"<b>{found.per_core_step:,.1f}</b>" in text
        and f"{found.cores_without:,} cores were taken" in text
    )


def huge(cores: int) -> tuple[CircuitGraph, Mapping, object]:
    """A line of relays with one neuron a core, on a board of as many chips as Hala Point."""
    chip = load_target("loihi2")
    board = msgspec.structs.replace(
        chip,
        name="board",
        chips=msgspec.structs.replace(chip.chips, value=1152),
        chip_columns=msgspec.structs.replace(chip.chip_columns, value=36),
    )
    populations = (
        HostInput(name="x", shape=(cores,), layer="x", low=0, high=1),
        GradedRelay(name="r", shape=(cores,), layer="r", depth=1),
    )
    q = Strided(
        name="q",
        src=Ref("x"),
        dst=Ref("r"),
        sizes=(cores,),
        src_strides=(1,),
        dst_strides=(1,),
        delay=1,
    )
    circuit = CircuitGraph("huge", 1, populations, (q,), (), {}, period=1)
    held = tuple(
        CoreUse(
            chip=s.chip,
            x=s.x,
            y=s.y,
            core=s.core,
            tiles=(Tile("r", (i,), (i + 1,)),),
            used=Usage(1, 1, 1, 1, 1, 0),
        )
        for i, s in enumerate(board.slot_order(cores))
    )
    return (
        circuit,
        Mapping(
            circuit="huge",
            target="board",
            seed=0,
            cores=held,
            traffic=Traffic(packets=0, local=0, from_host=0, to_host=0, hops=0),
        ),
        board,
    )


@pytest.mark.parametrize("cores", [19_000, pytest.param(138_240, marks=pytest.mark.slow)])
def test_size_of_large_boards(program: Program, cores: int) -> None:
    circuit, mapping, board = huge(cores)
    counts = count(circuit, mapping, board, modelled_activity(circuit, {}, "test"))
    assert counts.total("host_packets") == cores
    many = dataclasses.replace(program, circuit=circuit, mapping=mapping, target=board)
    embedded = msgspec.json.encode(page_data(many, counts, load_profile("davies2018")))
    assert len(embedded) < 8_000_000


@pytest.fixture
def browser(tmp_path: Path):
    """A headless Chromium of the width asked for."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="needs the extra oracle (selenium)"
    )
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


def show(browser, path: Path, text: str, width: int) -> None:
    write_page(text, path)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(path.as_uri())


def test_a_click_on_a_core_shows_what_lives_there(
    browser, program: Program, page: str, tmp_path: Path
) -> None:
    for width in (390, 1200):
        show(browser, tmp_path / "r.html", page, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (
            "the page must not scroll sideways"
        )
        shapes = browser.find_elements("css selector", "rect.used")
        assert len(shapes) == len(program.mapping.cores)
        shape = next(s for s in shapes if s.get_attribute("data-core") == "5")
        browser.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", shape
        )
        told = browser.find_element("id", "detail").text
        tile = program.mapping.cores[5].tiles[0]
        assert (
            told.startswith("Core 5:")
            and tile.population in told
            and f"{tile.start[0]}:{tile.stop[0]}" in told
        )
        before = shape.get_attribute("fill")
        browser.execute_script(
            "const m = document.getElementById('metric'); m.value = 8; m.dispatchEvent(new Event('change'))"
        )
        again = browser.find_element("css selector", "rect.used[data-core='5']")
        assert again.get_attribute("fill") != before and "chosen" in again.get_attribute("class")
        assert not [
            entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
        ]


def test_on_a_phone_tables_scroll_and_the_page_does_not(
    browser, program: Program, tmp_path: Path
) -> None:
    """With a layer and a reference of long names; what parity found is seen without scrolling."""
    from neurocompile.parity.report import BackendParity, FloatParity, ParityReport

    banner = "neurocompile emulator (bit-exact integer model on the CPU), NOT hardware"
    backend = BackendParity(
        "lava-runtime", banner, "emulator", 360, 2, 75_356_640_123, 0, None, 0.1
    )
    parity = ParityReport(
        "m", 4, (backend,), FloatParity("y" * 150 + ".onnx", 3, (), None, 1.0, None, None)
    )
    old, long = program.circuit.populations[3].layer, "blocks_" + "x" * 150
    populations = tuple(
        dataclasses.replace(q, layer=long if q.layer == old else q.layer)
        for q in program.circuit.populations
    )
    views = tuple(
        dataclasses.replace(v, layer=long if v.layer == old else v.layer)
        for v in program.circuit.views
    )
    named = dataclasses.replace(
        program, circuit=program.circuit.replace(populations=populations, views=views)
    )
    text = render_page(named, count_program(named), [load_profile("davies2018")], parity=parity)
    for width in (320, 390):
        show(browser, tmp_path / "r.html", text, width)
        for shape in browser.find_elements("css selector", "rect.used"):
            browser.execute_script(
                "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", shape
            )
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        inside = "const t = document.getElementById('layers'); return t.scrollWidth > t.parentElement.clientWidth"
        assert browser.execute_script(inside), (
            "the table of layers is wide, and scrolls in its own box"
        )
    seen = browser.execute_script(
        "return document.querySelectorAll('#parity th')[1].getBoundingClientRect().right"
    )
    assert seen <= 390, "the column of differences"


def test_nothing_is_cut_off_on_paper(browser, page: str, tmp_path: Path) -> None:
    paper = 718  # A4 in CSS pixels, less 1 cm a side
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    show(browser, tmp_path / "r.html", page, paper)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= paper


def test_hostile_names_do_nothing_in_a_browser(browser, program: Program, tmp_path: Path) -> None:
    bad = renamed(program)
    show(
        browser,
        tmp_path / "r.html",
        render_page(bad, count_program(bad), [load_profile("davies2018")]),
        1200,
    )
    for shape in browser.find_elements("css selector", "rect.used"):
        browser.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", shape
        )
    assert "owned" != browser.title and ATTACK in browser.title
    assert not browser.find_elements("css selector", "img")
