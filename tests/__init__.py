"""The tests, a folder for each package; what they share is in `problems` and `references`."""
