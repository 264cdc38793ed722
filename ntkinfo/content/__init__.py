"""Infinite width. Information content of labels: -log of the prior probability that a random network fits all of them.

The NNGP prior makes it the probability of an orthant of N(0, K). It is estimated by importance sampling, with a
standard error, an effective sample size and a verdict on whether to believe it, and bounded from both sides in closed
form. `ntkinfo.bounds.information_content` turns it into a generalization bound.
"""

from ntkinfo.content._content import (
    BELIEVED,
    FORMS,
    METHODS,
    MIN_EFFECTIVE_SAMPLES,
    Content,
    information_content,
    of_kernel,
    positive_probability,
    upper_bound,
)

__all__ = [
    "BELIEVED",
    "FORMS",
    "METHODS",
    "MIN_EFFECTIVE_SAMPLES",
    "Content",
    "information_content",
    "of_kernel",
    "positive_probability",
    "upper_bound",
]
