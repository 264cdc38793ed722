"""Claim: the infinite ensemble reproduces Fig. 2 of the paper that introduced it (arXiv 1911.09189).

x ~ N(0, I_30), y = a.x + ε with ε ~ N(0, 1) and I(X;Y) = 0.447 nat; three Dense layers with ReLU between, at six
weight scales, trained by gradient flow on 2000 points and evaluated on 1000. I(X;Z|D) by the InfoNCE lower bound, whose
expectation is the exact value, as all m inputs are in its batch, and exactly; I(Y;Z|D) ≥ h(Y) - Gibbs loss, decoder
N(y; z, 1), h(Y) known. The end points t → ∞ are compared with those read off the figure in the paper, averaged over
`--seeds` draws of a, x and ε: the draw of the 1000 evaluation points moves I(Y;Z|D) by the standard deviation printed.

The curves drawn are those of the first draw: the optimum bounds expectations, so one draw's curve may cross it.

    python benchmarks/paper_figure2.py               # some minutes; go on after an interruption: --resume
    python benchmarks/paper_figure2.py --seeds 1 --n-train 200 --n-test 100 --out figure2

Asked for: within 0.2 nat in I(X;Z|D) and 0.04 nat in I(Y;Z|D), as the paper does not say its sample, nor its layers'
parameterization, for which `--parameterization` offers both of neural-tangents. Writes `paper_figure2.json` and `.png`.
"""

import argparse
import faulthandler
import json
import os
import pathlib
import time

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo._cli.papers.infinite_ensembles import INFORMATION, PUBLISHED, TOLERANCE

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).resolve().parent
# From before the fastest mode of any scale moves until the slowest has settled.
TIMES = np.concatenate([[0.0], np.logspace(0, 10, 41), [np.inf]])


def network(w_std: float, parameterization: str):
    def dense(width):
        return stax.Dense(width, W_std=w_std, b_std=0.1, parameterization=parameterization)

    return stax.serial(dense(1024), stax.Relu(), dense(1024), stax.Relu(), dense(1))


def informations(w_std: float, data, t, key, options) -> dict[str, np.ndarray]:
    """I(X;Z|D) twice and I(Y;Z|D) at the times, in nats."""
    ens = ni.Ensemble.fit(network(w_std, options.parameterization), data.x_train, data.y_train)
    z = ens.predict(data.x_test, t)
    label_entropy = 0.5 * np.log(2 * np.pi * np.e) + INFORMATION  # of y ~ N(0, |a|² + 1)
    sampled = ni.information.input_information(z, method="minibatch", key=key, n_samples=options.n_samples)
    found = {
        "infonce": sampled.lower,
        "infonce_stderr": sampled.stderr if sampled.lower_stderr is None else sampled.lower_stderr,
        "exact": ni.information.input_information(z).value,
        "label": ni.information.label_information(z, data.y_test, noise=1.0, label_entropy=label_entropy).value,
    }
    return {name: np.asarray(value).tolist() for name, value in found.items()}


def optimum(i_xz):
    """The largest I(Y;Z) at given I(X;Z), for jointly Gaussian X and Y with one mode. Source: theory, section 7."""
    rate = np.exp(-2 * INFORMATION)
    return i_xz - 0.5 * np.log(rate * np.exp(2 * i_xz) + 1 - rate)


def end_points(seeds: dict) -> dict[str, dict]:
    """Per scale: mean and standard deviation over seeds at t = ∞, and the difference from the published point."""
    rows = {}
    for w, published in PUBLISHED.items():
        values = np.array([[one[str(w)][name][-1] for name in ("infonce", "label", "exact")] for one in seeds.values()])
        mean = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(3, np.nan)
        difference = mean[:2] - published
        rows[str(w)] = {
            "published": published,
            "mean": mean[:2].tolist(),
            "exact": mean[2],
            "standard_deviation": [None if np.isnan(each) else each for each in spread[:2].tolist()],
            "difference": difference.tolist(),
            "within": [bool(abs(d) <= limit) for d, limit in zip(difference, TOLERANCE, strict=True)],
        }
    return rows


def table(rows: dict) -> str:
    lines = [
        "          I(X;Z|D)                                     I(Y;Z|D)",
        "W_std   paper   here    sd     exact   difference     paper   here    sd     difference",
    ]
    for w, row in rows.items():
        (px, py), (x, y), (dx, dy) = row["published"], row["mean"], row["difference"]
        sx, sy = (float("nan") if each is None else each for each in row["standard_deviation"])
        ok = ["" if each else " !" for each in row["within"]]
        lines.append(
            f"{w:<6}  {px:5.2f}   {x:.3f}   {sx:.3f}  {row['exact']:.3f}   {dx:+.3f}{ok[0]:<2}       "
            f"{py:.3f}   {y:.3f}   {sy:.3f}  {dy:+.3f}{ok[1]}"
        )
    return "\n".join(lines)


def figure(curves: dict, rows: dict, m: int, path: pathlib.Path) -> None:
    """The information plane of one draw with the published end points, and the same over time."""
    fig, (plane, over_time) = plt.subplots(1, 2, figsize=(11.5, 5), layout="constrained", width_ratios=(1.35, 1))
    grid = np.linspace(0, np.log(m) + 0.5, 400)
    plane.plot(grid, optimum(grid), color="black", lw=1.4, label="optimum for Gaussian $X$, $Y$")
    plane.axhline(INFORMATION, color="0.35", lw=0.9, ls=":", zorder=0)
    plane.axvline(np.log(m), color="0.35", lw=0.9, ls="--", zorder=0)
    colors = plt.get_cmap("viridis")(np.linspace(0.95, 0.05, len(PUBLISHED)))
    for (w, row), color in zip(rows.items(), colors, strict=True):
        curve = {name: np.array(value) for name, value in curves[w].items()}
        plane.plot(curve["infonce"], curve["label"], color=color, lw=1.5, label=rf"$\sigma_w$ = {w}, one draw")
        spread = [0 if each is None else each for each in row["standard_deviation"]]
        plane.errorbar(*row["mean"], spread[1], spread[0], color=color, marker="o", ms=4.5, capsize=2, lw=1, zorder=4)
        plane.plot(*row["published"], marker="x", ms=8, mew=1.8, color=color, mec="#D55E00", zorder=5)
        for name, style in (("infonce", "-"), ("label", "--")):
            over_time.plot(TIMES[1:-1], curve[name][1:-1], color=color, ls=style, lw=1.4)
    plane.plot([], [], ls="", marker="x", ms=8, mew=1.8, color="#D55E00", label=r"$t\to\infty$, paper")
    plane.plot([], [], ls="", marker="o", ms=4.5, color="0.3", label=r"$t\to\infty$, mean and sd over draws")
    plane.annotate(
        rf"$\log m$ = {np.log(m):.3g}", (np.log(m), 0.02), (3, 0), textcoords="offset points", rotation=90, color="0.35"
    )
    plane.annotate(
        f"$I(X;Y)$ = {INFORMATION}",
        (0, INFORMATION),
        (4, 3),
        textcoords="offset points",
        color="0.35",
    )
    plane.set(xlabel="$I(X;Z|D)$ [nats]", ylabel="$I(Y;Z|D)$, lower bound [nats]", xlim=(0, grid[-1]), ylim=(0, 0.5))
    fig.legend(*plane.get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=5, frameon=False)
    over_time.axhline(np.log(m), color="0.35", lw=0.9, ls="--", zorder=0)
    over_time.plot([], [], color="0.3", label="$I(X;Z|D)$")
    over_time.plot([], [], color="0.3", ls="--", label="$I(Y;Z|D)$, lower bound")
    over_time.set(xscale="log", xlabel="training time $t$", ylabel="information [nats]", ylim=(-0.3, np.log(m) + 0.5))
    over_time.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0, 0.9), frameon=False)
    for ax in (plane, over_time):
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=6, help="number of draws of the data")
    parser.add_argument("--n-train", type=int, default=2000)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-samples", type=int, default=4, help="draws of z per input for InfoNCE")
    parser.add_argument("--parameterization", choices=("ntk", "standard"), default="ntk")
    parser.add_argument("--resume", action="store_true", help="keep the draws that the JSON of these settings holds")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    return parser.parse_args(arguments)


def main(arguments=None) -> dict:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "paper_figure2" + ("" if options.parameterization == "ntk" else "_standard")
    path = options.out / f"{name}.json"
    settings = {name: value for name, value in vars(options).items() if name not in ("seeds", "out", "resume")}
    seeds = {}
    # Never without being asked: the JSON of the checkout holds every draw, and nothing would be computed.
    if options.resume and path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            seeds = stored["seeds"]
        else:
            print(f"{path} is of other settings and will be replaced.")
    for seed in range(options.seeds):
        if str(seed) in seeds:
            continue
        began = time.time()
        data = ni.datasets.gaussian(options.n_train, options.n_test, information=INFORMATION, seed=seed)
        # The whole curves of the first draw are drawn; of the others the end points count.
        t = TIMES if seed == 0 else TIMES[-1:]
        keys = jax.random.split(jax.random.key(seed), len(PUBLISHED))
        seeds[str(seed)] = {
            str(w): informations(w, data, t, key, options) for w, key in zip(PUBLISHED, keys, strict=True)
        }
        rows = end_points(seeds)
        versions = {"jax": jax.__version__, "ntkinfo": ni.__version__, "backend": jax.default_backend()}
        record = {"settings": settings, "versions": versions, "t": [str(each) for each in TIMES]}
        path.write_text(json.dumps(record | {"end_points": rows, "seeds": seeds}, indent=1) + "\n")
        print(f"seed {seed}: {time.time() - began:.1f} s", flush=True)
    rows = end_points(seeds)
    figure(seeds["0"], rows, options.n_test, path.with_suffix(".png"))
    print(f"\nt = ∞, nats, mean and standard deviation over {len(seeds)} draws of the data:\n")
    print(table(rows))
    missed = [w for w, row in rows.items() if not all(row["within"])]
    print(f"\nOutside ±{TOLERANCE[0]} in I(X;Z|D) or ±{TOLERANCE[1]} in I(Y;Z|D): {', '.join(missed) or 'none'}.")
    print(f"Figure: {path.with_suffix('.png')}")
    return rows


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
