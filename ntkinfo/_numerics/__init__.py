"""Private ground: array code in JAX and NumPy without checks."""
