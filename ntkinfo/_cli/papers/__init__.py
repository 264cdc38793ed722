"""Figures of papers, computed again: one file for each paper, one function for each figure."""
