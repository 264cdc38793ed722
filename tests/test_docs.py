"""The documents hold together: sections that the code cites, links, anchors, files, names, and figures from results."""

import json
import re
from pathlib import Path

import pytest

import ntkinfo
from tests.scripts import script

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ntkinfo"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
THEORY = (ROOT / "docs" / "theory.md").read_text()
# "theory, section 4", "theory, sections 1 and 5", "theory sections 2, 3, 4 (outputs) and 5".
CITED = re.compile(
    r"[Tt]heory,?\s+sections?\s+(\d+(?:(?:,|\s+and|\s*\([^)]*\))*\s*\d+)*)(?:,\s+\"([^\"]+)\"|\s\((\w+)\))?"
)


def sections() -> dict[int, str]:
    """The text of each section of the theory, by its number."""
    parts = re.split(r"^## (\d+)\. ", THEORY, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def citations(text: str):
    """Numbers of the sections that a text cites, and the title of the part, if it names one."""
    # Docstrings break lines where they please.
    for match in CITED.finditer(re.sub(r"\s+", " ", text)):
        yield [int(number) for number in re.findall(r"\d+", match[1])], match[2] or match[3]


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What a link into the document can name: explicit anchors, and headings as GitHub spells them."""
    text = prose(document)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"></a>', text))


def test_citations_are_read():
    assert list(citations('theory, section 4, "Output\n    against prior".')) == [([4], "Output against prior")]
    text = "theory, sections 1 and 5; theory sections 2, 3, 4 (outputs) and 5; theory, section 12"
    assert list(citations(text)) == [([1, 5], None), ([2, 3, 4, 5], None), ([12], None)]
    assert list(citations("theory, section 7 (certificate)")) == [([7], "certificate")]


def test_sections_of_the_theory_are_numbered_and_can_be_linked():
    numbers = list(sections())
    assert numbers == list(range(1, len(numbers) + 1))
    for number in numbers:
        assert f'<a id="section-{number}"></a>\n\n## {number}. ' in THEORY


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_section_that_the_code_cites_is_there(path):
    there = sections()
    for numbers, title in citations(path.read_text()):
        assert set(numbers) <= set(there), f"theory has no section {numbers}"
        # A part starts with its title, in bold or as an item of a list.
        start = re.compile(rf"^(\*\*|- ){re.escape(title or '')}", flags=re.MULTILINE | re.IGNORECASE)
        assert title is None or start.search(there[numbers[-1]]), f"section {numbers} has no part {title!r}"


def test_the_code_cites_the_theory():
    cited = {n for path in PACKAGE.rglob("*.py") for numbers, _ in citations(path.read_text()) for n in numbers}
    assert cited == {*range(1, 10), *range(11, 18)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        goal = (document.parent / name).resolve() if name else document
        assert goal.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(goal), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_anchors_are_named_once(document):
    named = re.findall(r'<a id="([^"]+)"></a>', document.read_text())
    assert len(named) == len(set(named))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_are_there(document):
    for name in re.findall(r"`((?:ntkinfo|tests|benchmarks|notebooks|docs)/[\w./]*)`", prose(document)):
        assert (ROOT / name).exists(), f"{document.name} names {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_public_names_that_documents_name_are_there(document):
    modules = "|".join(name for name in ntkinfo.__all__ if name.islower())
    for module, name in re.findall(rf"`(?:ni\.)?({modules})\.([A-Za-z]\w*)", prose(document)):
        assert name == "py" or hasattr(getattr(ntkinfo, module), name), f"{document.name} names {module}.{name}"
    for name in re.findall(r"`ni\.(\w+)", prose(document)):
        assert hasattr(ntkinfo, name), f"{document.name} names ni.{name}"


def test_messages_that_troubleshooting_quotes_are_ours():
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    quoted = re.findall(r'\*\*"(.+?)"', (ROOT / "docs" / "troubleshooting.md").read_text())
    parts = [part.strip() for message in quoted for part in message.split("...")]
    assert len(quoted) > 3 and [part for part in parts if part not in source] == []


def test_the_readme_names_every_public_module():
    text = (ROOT / "README.md").read_text()
    assert not [name for name in ntkinfo.__all__ if name not in ("ensemble", "posterior") and f"`ni.{name}" not in text]


# Public functions that are no quantities: they read, check, name or choose.
NO_QUANTITIES = {
    "bottleneck": {"smooth"},
    "discrete": {"check_conditional", "check_joint", "is_deterministic", "merge_rows", "smooth"},
    "bounds": {"binary_kl", "binary_kl_inverse"},
    "finite": {"activations", "train_layers"},
    "information": {"is_saturated"},
    "variational": {"encoders", "fit", "label_noise", "sweep"},
}


@pytest.mark.parametrize(
    "module",
    [
        "bottleneck",
        "bounds",
        "cmi",
        "compression",
        "content",
        "discrete",
        "estimators",
        "examples",
        "finite",
        "information",
        "layers",
        "learning",
        "variational",
    ],
)
def test_notation_has_every_public_quantity(module):
    text = (ROOT / "docs" / "notation.md").read_text()
    functions = {name for name in getattr(ntkinfo, module).__all__ if name.islower()}
    assert not [name for name in functions - NO_QUANTITIES.get(module, set()) if not re.search(rf"\b{name}\b", text)]


def test_architecture_names_every_entry():
    text = (ROOT / "docs" / "architecture.md").read_text()
    entries = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert not [name for name in entries - {"__init__"} if name not in text]


def validation():
    """The script that makes the page of checks."""
    return script("benchmarks/validation.py")


def test_the_page_of_checks_is_what_the_results_make():
    assert (ROOT / "docs" / "validation.md").read_text() == validation().page(), "run `python benchmarks/validation.py`"


def test_the_table_of_hostile_arguments_adds_up(tmp_path, monkeypatch):
    page = validation()
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert "Not measured" in page.hostile_arguments()
    outcomes = {"clear error": 5, "sane result": 2, "raw traceback": 1}
    (tmp_path / "fuzz.json").write_text(
        json.dumps(
            {
                name: {"functions": 2, "versions": {"jax": version}, "outcomes": outcomes, "faults": {}}
                for name, version in (("bounds", "0.9.1"), ("discrete", "0.9.2"))
            }
        )
    )
    text = page.hostile_arguments()
    assert "| bounds | 2 | 8 | 5 | 2 | 1 |" in text and "| all | 4 | 16 | 10 | 4 | 2 |" in text
    assert "jax 0.9.1; jax 0.9.2" in text


def test_the_row_beside_the_peer_comes_back_with_its_measurement():
    page, phases = validation(), ("cold", "warm", "predict again")
    assert "Being remeasured" in page.beside_peer({})
    measured = {
        "neural-tangents, covariances": {phase: {"wall": 3.0, "processor": 4.0} for phase in phases},
        "ntkinfo, covariances": {phase: {"wall": 6.0, "processor": 2.0} for phase in phases},
    }
    text = page.beside_peer({"beside_neural_tangents": measured})
    assert "| ntkinfo, covariances | cold | 6 | 2 | 0.5 | 2 |" in text
