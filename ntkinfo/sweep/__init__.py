"""Infinite width. Sweeps over scales at initialisation, and over grids of networks, data and seeds.

`scales` sweeps the σ_w and σ_b axes of the field in one process; `grid` any axes, in processes or on a cluster.
Finished cells are written to disk, and an interrupted sweep goes on where it stopped.
"""

from ntkinfo.sweep._grid import Band, Grid, grid
from ntkinfo.sweep._scales import Sweep, SweptCurve, scales

__all__ = ["Band", "Grid", "Sweep", "SweptCurve", "grid", "scales"]
