"""Which papers there are: where the functions of their figures lie, and what each is called."""

import dataclasses
import importlib

from ntkinfo._cli import arguments
from ntkinfo._cli.papers.figure import Figure


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper whose figures can be reproduced.

    Attributes:
      file: the file beside this one with its `FIGURES`.
      authors: who wrote it, and when.
      title: its title.
      figures: names of the figures that there are.
    """

    file: str
    authors: str
    title: str
    figures: tuple[str, ...]

    def figure(self, name: str) -> Figure:
        """One of `figures`; loads JAX."""
        return importlib.import_module(f"ntkinfo._cli.papers.{self.file}").FIGURES[name]


PAPERS = {
    "1911.09189": Paper(
        "infinite_ensembles", "Shwartz-Ziv & Alemi 2019",
        "Information in Infinite Ensembles of Infinitely-Wide Neural Networks", ("1", "2", "3"),
    ),
    "2006.04641": Paper(
        "dual_bottleneck", "Piran, Shwartz-Ziv & Tishby 2020", "The Dual Information Bottleneck",
        ("curves", "bifurcation", "exponents", "variational", "images"),
    ),
    "2302.02432": Paper(
        "supersamples", "Wang & Mao 2023",
        "Tighter Information-Theoretic Generalization Bounds from Supersamples", ("bounds",),
    ),
    "2103.01045": Paper(
        "information_content", "Bernstein & Yue 2021", "Computing the Information Content of Trained Neural Networks",
        ("table",),
    ),
    "1703.00810": Paper(
        "layers_in_training", "Shwartz-Ziv & Tishby 2017",
        "Opening the Black Box of Deep Neural Networks via Information",
        ("2", "3", "4", "5", "6", "7", "weights", "images"),
    ),
    "2207.09408": Paper(
        "input_compression", "Galloway et al. 2022",
        "Bounding generalization error with input compression: An empirical study with infinite-width networks",
        ("ranking",),
    ),
    "2305.18887": Paper(
        "conditional_compression", "Kawaguchi et al. 2023", "How Does Information Bottleneck Help Deep Learning?",
        ("ranking",),
    ),
}  # fmt: skip


def paper(name: str) -> Paper:
    """A paper by its number at arXiv.

    Raises:
      ValueError: there is none; names those that there are.
    """
    if name not in PAPERS:
        listed = "; ".join(f"{number} (figures {', '.join(each.figures)})" for number, each in PAPERS.items())
        hint = arguments.did_you_mean(name, PAPERS)
        raise ValueError(
            f"PAPER must be one of those that there are; got {arguments.shown(name)}{hint} They are {listed}"
        )
    return PAPERS[name]


def figures(name: str, chosen: str | None) -> tuple[str, ...]:
    """Names of the figures asked for: one, or all of the paper.

    Raises:
      ValueError: the paper has no such figure here; names those that there are.
    """
    there = paper(name).figures
    if chosen is None:
        return there
    if chosen not in there:
        raise ValueError(
            f"--figure must be one of {', '.join(there)} for {name}; got {arguments.shown(chosen)}. Others of that "
            "paper are not reproduced."
        )
    return (chosen,)
