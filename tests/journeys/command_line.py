"""A user of the command line with a CSV of their own."""

import subprocess
import sys

import numpy as np
import pandas as pd

x = np.random.default_rng(0).normal(size=(60, 3))
pd.DataFrame(x, columns=list("abc")).assign(y=np.where(x[:, 0] > 0, "up", "down")).to_csv("own.csv", index=False)
options = ["--data", "own.csv", "--target", "y", "--n-train", "40", "--n-test", "20", "--times", "0.1:100:5"]
command = [sys.executable, "-m", "ntkinfo", *options, "--out", "found"]
done = subprocess.run(command, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
table = pd.read_csv("found/curve.csv")
assert len(table) == 5 and (table["label_information"] <= np.log(2) + 1e-9).all()
assert table["mean_error"].iloc[-1] < 0.3
