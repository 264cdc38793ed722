"""The jobs of the command line, `python -m ntkinfo`."""
