"""A report as one self-contained HTML file: figures inside, symbols explained, nothing fetched from anywhere."""

import base64
import html
import re
from pathlib import Path

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
figure { margin: 1.5rem 0; } img { max-width: min(100%, 46rem); height: auto; }
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
    """HTML of the Markdown that reports are written in."""
    parts, lines = [], text.splitlines()
    pending = dict(after or {})
    i, heading = 0, None
    while i < len(lines):
        start, stripped = i, lines[i].strip()
        i += 1
        if not stripped:
            continue
        if stripped.startswith("#"):
            # What follows a heading stands at the end of its section.
            parts += [pending.pop(heading)] if heading in pending else []
            level, heading = stripped.split(" ", 1)
            parts.append(f"<h{len(level)}>{_inline(heading)}</h{len(level)}>")
        elif stripped.startswith("```"):
            i = _end(lines, i, lambda line: line.startswith("```"))
            code = "\n".join(lines[start + 1 : i])
            parts.append(f"<pre>{_explained(code)}</pre>")
            i += 1
        elif stripped.startswith("!["):
            caption, name = re.match(r"!\[(.*?)\]\((.*?)\)", stripped).groups()  # pyright: ignore[reportOptionalMemberAccess]
            parts.append(_figure(folder / name, caption))
        elif stripped.startswith("|"):
            i = _end(lines, i, lambda line: not line.startswith("|"))
            parts.append(_table(lines[start:i]))
        elif stripped.startswith("- "):
            i = _end(lines, i, lambda line: not line.startswith("- "))
            items = "".join(f"<li>{_inline(line[2:])}</li>" for line in lines[start:i])
            parts.append(f"<ul>{items}</ul>")
        else:
            i = _end(lines, i, lambda line: not line or line[:1] in "#|-!`")
            parts.append(f"<p>{_inline(' '.join(lines[start:i]))}</p>")
    parts += [pending.pop(heading)] if heading in pending else []
    return "\n".join([*parts, *pending.values()])


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


def _end(lines: list[str], i: int, ends) -> int:
    """The first line from `i` on that ends a block."""
    while i < len(lines) and not ends(lines[i]):
        i += 1
    return i


def _figure(path: Path, caption: str) -> str:
    return f'<figure><img src="{data_uri(path.read_bytes())}" alt="{html.escape(caption)}"></figure>'


def _table(lines: list[str]) -> str:
    rows = [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    head, *rest = (row for row in rows if not all(set(cell) <= set("-: ") and cell for cell in row))
    cells = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
    rest = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rest)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rest}</tbody></table>"


def _inline(text: str) -> str:
    """A line with `code` marked, links to files of the folder as their text, and symbols explained."""
    text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text)
    pieces = re.split(r"`(.*?)`", text)
    return "".join(f"<code>{html.escape(p)}</code>" if i % 2 else _explained(p) for i, p in enumerate(pieces))


def _explained(text: str) -> str:
    """Escaped text, its symbols with what they mean."""

    def marked(match) -> str:
        symbol = html.unescape(match[0])
        return f'<abbr title="{html.escape(SYMBOLS[symbol])}">{match[0]}</abbr>'

    return _SYMBOL.sub(marked, html.escape(text))
