"""The parser of the command line, and its jobs."""

import argparse

# Further jobs: their first word, the file with `add_arguments` and `run`, and what they do.
JOBS = {
    "plane": ("plane", "Layers of networks trained on the 12-bit task, in the information plane."),
    "variational": ("variational", "Variational bottlenecks on images, over their trade-offs."),
}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One clear line instead of the usage, which --help shows."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")
