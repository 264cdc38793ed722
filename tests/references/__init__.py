"""What the tests compare with: plain NumPy and SciPy, by other ways than the library's."""
