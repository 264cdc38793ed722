"""An information theorist with a crosstab: certified optima, and clusters under the names of the table."""

import pandas as pd

import ntkinfo as ni

rows, columns = ["cat", "dog", "car", "boat"], ["pet", "road", "water"]
table = pd.DataFrame([[20, 3, 0], [18, 4, 1], [2, 30, 5], [1, 6, 25]], rows, columns)
joint = ni.discrete.from_counts(table)
curve = ni.bottleneck.ib(joint, [2.0, 5.0, 20.0], certificate=True)
cluster = curve.assignments(1).set_index("x")["cluster"]
assert cluster["cat"] == cluster["dog"] and len(set(cluster)) == 3
assert float(curve.gap.max()) < 1e-5 and bool(curve.certified.all())
assert curve.to_dataframe(unit="bits")["i_zy"].iloc[-1] <= joint.to_dataframe(unit="bits").attrs["mutual_information"]
ni.plot.clusters(curve, 1).figure.savefig("clusters.png")
