"""report.html: one file that asks for nothing, and says what its symbols mean."""

import html.parser
import re
import shutil
import subprocess

import pytest

from ntkinfo import __main__
from ntkinfo._cli import html as pages

SMALL = ["--n-train", "20", "--n-test", "8", "--depth", "1", "--times", "0,1,10,inf"]
# One pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000" "1f15c4890000000d49444154789c6360000002000001e5"
    "27de3c0000000049454e44ae426082"
)  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Every attribute that a browser would fetch, the tags and whether they close, and the text."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.asked, self.open, self.ids, self.titles, self.count = [], [], [], set(), {}
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "poster", "srcset", "background"):
                self.asked.append(value)
            assert not name.startswith("on"), name
            if tag == "abbr" and name == "title":
                self.titles.add(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def asks_for_nothing(text):
    reader = Reader(text)
    assert reader.asked and all(value.startswith("data:") for value in reader.asked)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", text)
    assert "default-src 'none'" in text
    return reader


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    import jax

    before = jax.config.jax_enable_x64
    folder = tmp_path_factory.mktemp("report")
    assert __main__.main([*SMALL, "--unit=bits", "--out", str(folder)]) == 0
    yield folder / "report.html"
    jax.config.update("jax_enable_x64", before)


def test_the_page_of_the_main_job_is_one_file(report):
    text = report.read_text()
    reader = asks_for_nothing(text)
    # Six figures, and a frame for each of the four times.
    assert reader.count["img"] == 6 + 4 and reader.count["input"] == 1
    assert "t = inf" in text and 'type="range" min="0" max="3"' in text
    assert any("most that anything can tell" in title for title in reader.titles)
    assert all(f"<dt>{word}</dt>" in text for word in ("X", "Y", "Z", "D", "ensemble", "prior", "time"))
    assert len(pages.GLOSSARY) == 10
    assert "python -m ntkinfo --unit=bits --n-train=20 --n-test=8 --depth=1 --times=0,1,10,inf" in text
    assert "JAX " in text and "device cpu" in text
    # What is said of each time are the numbers of the table.
    markdown = (report.parent / "report.md").read_text()
    last = re.search(r"At the end of the times shown the output tells ([\d.]+) bits", markdown)[1]
    assert f"the output tells {float(last):.3g} " in re.sub(r"<.*?>", "", text)


def test_markdown_of_reports(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    text = "\n".join(
        ["# Title <b>", "", "I(X;Z|D) and `code & |x|`", "on two lines, [a file](a.csv).", "", "- one", "- two", "",
         "![what](a.png)", "", "## Part", "", "| a | b |", "| --- | --- |", r"| I(X;Z\|D) | 2 |", "", "```",
         "H(Y) < 3", "# no heading", "```", ""]
    )  # fmt: skip
    found = pages.page(text, tmp_path, about={"command": "do --this='x'", "JAX": "1"}, after={"Part": "<p>after</p>"})
    reader = asks_for_nothing(found)
    assert reader.count["li"] == 2 and reader.count["td"] == 2 and reader.count["h2"] == 3
    assert "<h1>Title &lt;b&gt;</h1>" in found and "<code>code &amp; |x|</code>" in found and "a file." in found
    assert '<abbr title="entropy of the labels' in found and "&lt; 3\n# no heading\n</pre>\n<p>after</p>" in found
    assert "do --this=&#x27;x&#x27;" in found
    assert len(re.findall(r"<abbr[^>]*>I\(X;Z\|D\)</abbr>", found)) == 2


def test_a_slider_switches_frames():
    found = pages.slider([("t = 0", PNG, "nothing"), ("t = 1", PNG, "some nats")], "time")
    reader = Reader(found)
    assert reader.count["img"] == 2 and found.count(" hidden>") == 2 and reader.count["script"] == 1
    assert pages.slider([], "time") == ""


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.timeout(180)
def test_a_browser_shows_it_without_a_word(report, tmp_path):
    # A copy that moves its own slider to the left, as a reader would, and says in its title what it then shows.
    moved = report.read_text().replace(
        "</body>",
        "<script>var r = document.querySelector('input'); r.value = '0'; r.dispatchEvent(new Event('input'));"
        "document.title = [].filter.call(document.querySelectorAll('.frame'), f => !f.hidden).map(f => f.alt)"
        " + ' ' + [].every.call(document.images, i => i.complete && i.naturalWidth > 0);</script></body>",
    )
    page = tmp_path / "moved.html"
    page.write_text(moved)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert "<title>t = 0 true</title>" in done.stdout
    # What the page would have said on the console, such as of refused requests.
    assert "CONSOLE" not in done.stderr
