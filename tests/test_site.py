"""The pages of the documentation: every block of code runs, every public module has its page, the shelves are full."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ["index.md", *sorted(f"how_to/{page.name}" for page in (DOCS / "how_to").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_and_is_short(page, tmp_path, monkeypatch):
    text = (DOCS / page).read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert len(code.splitlines()) <= 40 and len(text.splitlines()) <= 40
    if "import flax" in code:
        pytest.importorskip("flax")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "page"})
    assert printed.getvalue() and "nan" not in printed.getvalue()
    for figure in re.findall(r'savefig\("([^"]+)"\)', code):
        assert (tmp_path / figure).stat().st_size > 5000


def test_every_page_is_on_a_shelf():
    named = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert named == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


def test_the_site_builds_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    fetched = re.compile(
        r"""<(?:script|img|iframe)[^>]+src=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//[^>]+>"""
    )
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        outside = [link for link in fetched.findall(page.read_text()) if 'rel="canonical"' not in link]
        assert not outside, (page, outside)
    shown = [*tmp_path.glob("notebooks/*/index.html"), *tmp_path.glob("gallery/*/index.html")]
    assert len(shown) == len(list((ROOT / "notebooks").glob("*.py"))) + len(
        {path.stem.split("-")[0] for path in (DOCS / "gallery").glob("*.json")}
    )
    for page in shown:
        text = page.read_text()
        pictures = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', text)
        assert all((page.parent / name).resolve().exists() and len(alt) > 20 for name, alt in pictures), page
        # Formulas have become MathML, and cells of tables are whole.
        assert not re.search(r"formula[0-9a-f]{16}x|\$\$|<p>\| ", text), page
    # Displayed formulas scroll by themselves where the screen is narrow.
    assert re.search("overflow-x:auto[^<]*><math", (tmp_path / "notebooks" / "01_corridor" / "index.html").read_text())
    # Subscripts with stars are no emphasis, nor are tables of notebooks left to themselves.
    theory = (tmp_path / "theory" / "index.html").read_text()
    assert "Q_** − Q_*(Q + σ²I)⁻¹Q_*ᵀ" in theory and "Θ_*ᵀ − Θa − da/ds" in theory and "[G(Y − f₀)]_i for" in theory
    assert "Σ = e<sup>−sΘ</sup> K e<sup>−sΘ</sup>" in theory and "<li>information content (Bernstein" in theory
    posterior = (tmp_path / "reference" / "posterior" / "index.html").read_text()
    assert "N(Q_*(Q + σ²I)⁻¹Y, (Q_** - Q_*(Q + σ²I)⁻¹Q_*ᵀ)" in posterior
    assert re.search(r'sections <a [^>]+>1</a>, <a [^>]+>4</a> and <a [^>]+#section-15">15</a>', posterior)
    assert 'class="dataframe"' not in "".join(page.read_text() for page in shown)
    # A section of the README, which is no page.
    legal = (tmp_path / "how_to" / "legal_bounds" / "index.html").read_text()
    assert "<code>conditional_compression</code>" in legal and "<h2>Which bottleneck?" not in legal
    bounds = (tmp_path / "reference" / "bounds" / "index.html").read_text()
    assert "pac_bayes_kl" in bounds and "theory/#section-6" in bounds
