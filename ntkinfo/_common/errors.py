"""Errors that several packages raise."""


class DivergedError(ValueError):
    """Training diverged: something that must stay finite did not.

    Attributes:
      step: the step (from 0) where it was seen; None where steps are not what is counted, as all that follow.
      epoch: the epoch.
      time: the training time.
      run: the run up to there.
      fit: the last good state of a variational fit, with the history before it.
    """

    def __init__(self, message: str, *, step=None, epoch=None, time=None, run=None, fit=None):
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.time = time
        self.run = run
        self.fit = fit
