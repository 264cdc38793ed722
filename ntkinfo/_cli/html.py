"""A report as one self-contained HTML file: figures inside, symbols explained, nothing fetched from anywhere."""

import base64
import html
import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

# What hovering over a symbol says. Longer ones come first where one begins another.
SYMBOLS = {
    "I(X;Z|D)": "what the output Z tells about which input X was shown, given the training data D",
    "I(Y;Z|D)": "what the output Z tells about the label Y, given the training data D",
    "I(X;Z)": "mutual information of input and representation: how much Z tells about X",
    "I(Y;Z)": "mutual information of label and representation: how much Z tells about Y",
    "I(Z;Y)": "mutual information of representation and label: how much Z tells about Y",
    "I(X;T)": "mutual information of the input and a layer T",
    "I(T;Y)": "mutual information of a layer T and the label",
    "I(X;Y)": "mutual information of input and label: what there is to know about Y in X",
    "H(Y)": "entropy of the labels: the most that anything can tell about them",
    "h(Y)": "differential entropy of real-valued labels",
    "log m": "logarithm of the number of test inputs: the most that can be told about which of them was shown",
    "KL linear": "part of the divergence of the parameters from their prior that the tangent kernel alone gives",
    "KL params": "Kullback–Leibler divergence of the trained parameters from the random ones",
    "KL out": "Kullback–Leibler divergence of trained outputs from random ones",
    "PAC-Bayes-kl": "upper bound on the error on new examples, by the binary KL divergence (Maurer 2004)",
    "McAllester": "a looser upper bound on the error on new examples (McAllester 1999)",
    "Catoni": "another upper bound on the error on new examples (Catoni 2007)",
    "E|dtheta|^2": "mean squared distance that the parameters have travelled",
    "σ_w": "standard deviation of the random weights",
    "σ_b": "standard deviation of the random biases",
    "σ²/τ²": "noise over prior variance: directions with eigenvalues above it are decided by the data",
    "Θ̂": "the tangent kernel of this network: inner products of its gradients at pairs of inputs",
    "InfoNCE": "a lower bound on mutual information, at most the logarithm of the number of samples",
    "0-1 error": "share of inputs whose label is not the predicted one",
    "nats": "unit of information with natural logarithms; 1 nat is 1.44 bits",
    "bits": "unit of information with logarithms to base 2",
}
GLOSSARY = {
    "X": "the input, such as an image. For information about X it is one of the test inputs, each equally likely.",
    "Y": "the label of the input, which the network is trained to predict.",
    "Z": "the output of a network (or a representation of the input) for an input; random, since networks are.",
    "D": "the training data: all inputs and labels the network was trained on.",
    "ensemble": "all networks of one kind that started from different random parameters and were trained alike.",
    "prior": "the distribution of parameters, and so of outputs, before training.",
    "time": "how long gradient descent has run: the number of steps times the learning rate; 0 before training.",
    "mutual information": "how much knowing one thing tells about another on average; 0 for independent ones.",
    "divergence": "Kullback–Leibler divergence: how far one distribution is from another; 0 for equal ones.",
    "bound": "a number that the true one is proven not to pass, with the stated probability where there is one.",
}
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
pre { overflow-x: auto; background: #f6f6f4; padding: .8rem; font-size: .8rem; line-height: 1.4; }
code { background: #f2f2f0; padding: 0 .2em; overflow-wrap: anywhere; } pre code { padding: 0; }
figure { margin: 1.5rem 0; } p:has(> img) { margin: 1.5rem 0; } img { max-width: min(100%, 46rem); height: auto; }
figcaption { color: #444; font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; } td, th { border-bottom: 1px solid #ddd; padding: .25rem .6rem;
  text-align: left; vertical-align: top; }
abbr { text-decoration: underline dotted #888; cursor: help; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1.2rem; }
input[type=range] { width: 100%; } output { font-weight: 600; }
"""
# Nothing from outside the file: said to the browser, too.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SYMBOL = re.compile("|".join(re.escape(html.escape(symbol)) for symbol in sorted(SYMBOLS, key=len, reverse=True)))


def page(text: str, folder: Path, *, about: dict[str, str], after: dict[str, str]) -> str:
    """The whole file.

    Args:
      text: the report in Markdown: headings, paragraphs, lists, tables, code blocks, images of `folder`.
      folder: where its images lie.
      about: command, options and versions, for the end of the page.
      after: further HTML by the heading that it follows.
    """
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), "ntkinfo")
    glossary = "".join(f"<dt>{word}</dt><dd>{html.escape(said)}</dd>" for word, said in GLOSSARY.items())
    versions = ", ".join(f"{name} {value}" for name, value in about.items() if name not in ("command", "options"))
    command = f"<pre><code>{html.escape(about['command'])}</code></pre>" if "command" in about else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An icon of its own: browsers ask for one otherwise.
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body(text, folder, after)}\n"
        f"<h2>Words</h2>\n<dl>{glossary}</dl>\n<p>Underlined symbols say what they are when pointed at.</p>\n"
        f"<h2>Repeat it</h2>\n{command}\n<p>{html.escape(versions)}.</p>\n</body>\n</html>\n"
    )


def body(text: str, folder: Path, after: dict[str, str] | None = None) -> str:
    """HTML of the Markdown that reports are written in; what follows a heading stands at the end of its section."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for rule, render in _RULES.items():
        markdown.add_render_rule(rule, render)
    tokens, pending = markdown.parse(text), dict(after or {})
    starts = [i for i, token in enumerate(tokens) if token.type == "heading_open"]
    bounds = sorted({0, *starts, len(tokens)})
    parts = []
    for start, end in pairwise(bounds):
        parts.append(markdown.renderer.render(tokens[start:end], markdown.options, {"folder": folder}))
        heading = tokens[start + 1].content if start in starts else None
        parts.append(pending.pop(heading, ""))
    return "".join([*parts, *pending.values()])


def slider(frames: list[tuple[str, bytes, str]], what: str) -> str:
    """A figure over time, switched by a slider: the frames inside the file, a few lines of script.

    Args:
      frames: (what the slider says, PNG, a sentence) for each.
      what: the name of the slider.
    """
    if not frames:
        return ""
    shown = len(frames) - 1
    images = "".join(
        f'<img class="frame" src="{data_uri(png)}" alt="{html.escape(said)}"{"" if i == shown else " hidden"}>'
        for i, (said, png, _) in enumerate(frames)
    )
    sentences = "".join(
        f'<span class="sentence"{"" if i == shown else " hidden"}><output>{html.escape(said)}</output>: '
        f"{_explained(sentence)}</span>" for i, (said, _, sentence) in enumerate(frames)
    )  # fmt: skip
    return (
        f'<figure id="over-time">{images}<label>{html.escape(what)} <input type="range" min="0" max="{shown}" '
        f'value="{shown}" aria-label="{html.escape(what)}"></label><figcaption>{sentences}</figcaption></figure>\n'
        "<script>\n(function () {\n"
        '  var figure = document.getElementById("over-time"), range = figure.querySelector("input");\n'
        '  range.addEventListener("input", function () {\n'
        '    [".frame", ".sentence"].forEach(function (kind) {\n'
        "      figure.querySelectorAll(kind).forEach(function (part, i) {\n"
        "        part.hidden = i !== Number(range.value);\n      });\n"
        "    });\n  });\n})();\n</script>"
    )


def data_uri(png: bytes) -> str:
    """A PNG as the source of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _explained(text: str) -> str:
    """Escaped text, its symbols with what they mean."""

    def marked(match) -> str:
        symbol = html.unescape(match[0])
        return f'<abbr title="{html.escape(SYMBOLS[symbol])}">{match[0]}</abbr>'

    return _SYMBOL.sub(marked, html.escape(text))


def _image(self, tokens, i, options, env) -> str:
    token = tokens[i]
    source = data_uri((env["folder"] / token.attrs["src"]).read_bytes())
    return f'<img src="{source}" alt="{html.escape(token.content)}">'


def _nothing(self, tokens, i, options, env) -> str:
    """Links lead to files of the folder, which the page does not need: only their text is kept."""
    return ""


_RULES = {
    "text": lambda self, tokens, i, options, env: _explained(tokens[i].content),
    "fence": lambda self, tokens, i, options, env: f"<pre>{_explained(tokens[i].content)}</pre>\n",
    "image": _image,
    "link_open": _nothing,
    "link_close": _nothing,
}
