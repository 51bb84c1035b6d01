"""Why a study could not be done, each reason with the exit code of the command line."""

import signal


class StudyError(Exception):
    """A reason that the user can do something about, told in one line."""

    exit_code = 1


class EveryTrialFailed(StudyError):
    """There is no configuration to choose from."""


class Locked(StudyError):
    """Another process is running the study."""

    exit_code = 5


class DamagedStudy(StudyError):
    """The study's folder cannot be trusted; nothing was deleted."""

    exit_code = 6


class NoResources(StudyError):
    """The cluster can never run a trial of the size asked for."""

    exit_code = 7


class Interrupted(StudyError):
    """A signal ended the study; it can be resumed."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum
