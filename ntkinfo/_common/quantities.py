"""The table of quantities over training time: of a curve's columns, and of what figures, reports and documents say."""

from typing import Any, NamedTuple


class Quantity(NamedTuple):
    """One quantity of a `Curve`.

    Attributes:
      name: its field of `Curve` or of `Losses`, and its column.
      kind: the axis it belongs to: "information", "geometry", "mse", "nll" or "error".
      symbol: what figures call it, in mathtext.
      unit: "nats", or "" for what has none.
      meaning: what it is.
      exact: "exact", or under which condition; "" where the estimator says.
      bound: which way it bounds what, or what it never exceeds; "" for neither.
      heading: head of its column in short tables; "" leaves it out of them.
    """

    name: str
    kind: str
    symbol: str
    unit: str
    meaning: str
    exact: str
    bound: str
    heading: str

    @property
    def description(self) -> str:
        """Meaning, unit, whether exact, and which bound, in one line."""
        parts = [self.meaning, f"in {self.unit}" if self.unit else "", self.exact]
        return ", ".join(filter(None, parts)) + (f"; {self.bound}" if self.bound else "")


_WIDTH = "exact at infinite width"

# In the order of a curve's columns. A new quantity is a row here and a field of `Curve` or `Losses`.
QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            "input_information", "information", "$I(X;Z|D)$", "nats",
            "I(X;Z|D) for X uniform over the test inputs", "", "at most log m", "I(X;Z|D)",
        ),
        Quantity(
            "label_information", "information", "$I(Y;Z|D)$", "nats",
            "I(Y;Z|D) on the test inputs", "", "at most H(Y) for classes", "I(Y;Z|D)",
        ),
        Quantity(
            "output_divergence", "information", r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$", "nats",
            "mean over test inputs of KL[p_t(z|x,D) ‖ p_0(z|x)]", "exact", "its mean over D ≥ I(Z;D|X)", "KL out",
        ),
        Quantity(
            "output_divergence_joint", "information", r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$, joint", "nats",
            "the same KL of all test outputs together", "exact", "at most that of the parameters", "",
        ),
        Quantity(
            "parameter_distance", "geometry", r"$\mathrm{E}\,\Vert\theta_t-\theta_0\Vert^2$", "",
            "E‖θ_t - θ_0‖²", _WIDTH, "", "E|dtheta|^2",
        ),
        Quantity(
            "action", "geometry", r"action $\int\Vert\dot\theta\Vert^2$", "",
            "E of the integral of ‖dθ/ds‖² ds", _WIDTH, "", "",
        ),
        Quantity(
            "fisher_action", "geometry", "action, Fisher metric", "",
            "the same in the Fisher metric", _WIDTH, "", "",
        ),
        Quantity(
            "gibbs_mse", "mse", "one network, test", "",
            "expected squared error of one network on the test inputs", "exact", "", "MSE net",
        ),
        Quantity(
            "mean_mse", "mse", "ensemble mean, test", "",
            "squared error of the ensemble mean on the test inputs", "exact", "", "MSE mean",
        ),
        Quantity(
            "gibbs_nll", "nll", "one network", "nats",
            "expected negative log-likelihood of one network", "exact", "", "",
        ),
        Quantity(
            "ensemble_nll", "nll", "ensemble", "nats",
            "negative log-likelihood of the ensemble", "exact", "at most gibbs_nll", "",
        ),
        Quantity(
            "gibbs_error", "error", "one network", "",
            "0-1 error of one network on the test inputs", "exact", "", "err net",
        ),
        Quantity(
            "mean_error", "error", "ensemble mean", "",
            "0-1 error of the ensemble mean on the test inputs", "exact", "", "err mean",
        ),
        Quantity(
            "train_gibbs_mse", "mse", "one network, train", "",
            "expected squared error of one network on the training inputs", "exact", "", "",
        ),
        Quantity(
            "train_mean_mse", "mse", "ensemble mean, train", "",
            "squared error of the ensemble mean on the training inputs", "exact", "", "",
        ),
    )
}  # fmt: skip

# What each column of a curve is, in one line.
MEANING = {name: quantity.description for name, quantity in QUANTITIES.items()}


# What classes of results that have these quantities call `quantities`: named tuples take no base class for it.
catalogue = property(
    lambda self: QUANTITIES,
    doc="The table of quantities by name, in the order of the columns: what figures and reports are made from.",
)


def in_nats(column: str) -> bool:
    """Whether a column of a curve is in nats: a quantity that is, or a bound or an error of one."""
    name = column
    for suffix in ("_lower", "_upper", "_stderr", "_truncation"):
        name = name.removesuffix(suffix)
    return name in QUANTITIES and QUANTITIES[name].unit == "nats"


def scaled(columns: dict[str, Any], scale: float) -> dict[str, Any]:
    """Columns of a curve, those in nats multiplied by `scale`."""
    return {name: scale * column if in_nats(name) else column for name, column in columns.items()}


def markdown() -> str:
    """The table as a page of documentation, `docs/quantities.md`."""
    lines = ["| column | kind | unit | meaning | exact | bound |", "| --- | --- | --- | --- | --- | --- |"]
    for quantity in QUANTITIES.values():
        cells = (
            f"`{quantity.name}`", quantity.kind, quantity.unit, quantity.meaning,
            quantity.exact or "by its method", quantity.bound,
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
