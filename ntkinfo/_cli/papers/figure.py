"""What a reproduced figure is: numbers, a drawing, and claims that a rule decides."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

# What a claim compares with.
SOURCES = {
    "figure": "read off the figure in the paper",
    "abstract": "said in the abstract of the paper",
    "text": "said in the text of the paper",
    "theory": "theory of this library",
    "notebook": "found in a notebook of this library",
    "question": "asked by this library",
}
RELATIONS = ("equals", "at most", "at least")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A number beside what it should be.

    Attributes:
      text: what is claimed.
      found: the number found.
      relation: one of `RELATIONS`.
      expected: what it is compared with.
      tolerance: by how much it may miss.
      source: one of `SOURCES`.
      unit: "nats", or nothing.
    """

    text: str
    found: float
    relation: str
    expected: float
    tolerance: float = 0.0
    source: str = "theory"
    unit: str = ""

    def holds(self) -> bool:
        """Whether it is so, by the rule; NaN never is."""
        excess = self.found - self.expected
        if self.relation == "equals":
            return bool(abs(excess) <= self.tolerance)
        return bool((excess if self.relation == "at most" else -excess) <= self.tolerance)

    def rule(self) -> str:
        """The rule in words, in nats."""
        margin = f" ± {self.tolerance:.2g}" if self.relation == "equals" else (
            f" (within {self.tolerance:.2g})" if self.tolerance else "")  # fmt: skip
        return f"{self.relation} {self.expected:.5g}{margin}{f' {self.unit}' if self.unit else ''}"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a figure's function returns.

    Attributes:
      numbers: what is drawn, plain lists and numbers, information in nats.
      claims: what is claimed of it.
      draw: makes the figure; takes "nats" or "bits".
      settings: sizes and scales, for the record.
    """

    numbers: dict[str, Any]
    claims: list[Claim]
    draw: Callable[[str], Any]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure that can be reproduced.

    Attributes:
      shows: what is to be seen, in a sentence: also what is said to those who do not see it.
      compares: what it is held against, in a sentence.
      compute: `compute(full, seed)` returns `Found`.
    """

    shows: str
    compares: str
    compute: Callable[[bool, int], Found]


def judged(claims: list[Claim], full: bool) -> list[Claim]:
    """Those that can be judged: small sizes are held against theory, full ones against all."""
    return [claim for claim in claims if full or claim.source == "theory"]


def verdict(claims: list[Claim], full: bool) -> str:
    """In words: "reproduced" where all claims hold, some of the paper among them, "not reproduced" where none does."""
    held = sum(claim.holds() for claim in claims)
    if not full:
        return f"small sizes: {held} of {len(claims)} claims of theory hold; --full judges those of the paper"
    if held == len(claims):
        of_paper = any(claim.source in ("figure", "abstract", "text") for claim in claims)
        return "reproduced" if of_paper else "agrees with what this library expects; no claim of the paper is judged"
    return f"in part: {held} of {len(claims)} claims hold" if held else "not reproduced"


def plain(value: Any) -> Any:
    """Numbers and arrays as lists and numbers of Python, six digits of each."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, str | bool | int | None):
        return value
    array = np.asarray(value)
    if array.ndim:
        return [plain(each) for each in array]
    number = array.item()
    if not isinstance(number, float):
        return number
    return float(f"{number:.6g}") if np.isfinite(number) else str(number)
