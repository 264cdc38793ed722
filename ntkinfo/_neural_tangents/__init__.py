"""Private ground: neural-tangents 0.6.5 on current JAX, and networks with correlated parameters."""
