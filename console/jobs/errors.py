"""Errors of the step engine.

JobError                  has a stable code and a text
    StepFailed            a step failed; the text says why
        JobCancelled      someone cancelled the job; the step stops and leaves nothing
        StepTimedOut      the step's own time limit is over
    JobConflict           the request is not possible now; the text says why
    IllegalEvent          an event that the log does not allow: a bug in this program
    UnknownWorkflow       no such kind or version is registered here
DatabaseRestored          the database is older than the world; its jobs have to be held first
DatabaseAway              the database failed inside a step, which counts as a lost worker
LeaseLost                 another worker holds the job now; steps must not catch it
"""


class JobError(Exception):
    """An error of the engine. `code` is stable; `text` is for people."""

    code = "JOBS-ERROR"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class StepFailed(JobError):
    """A step failed and left nothing behind.

    is_permanent: trying again cannot help, so the engine does not.
    """

    def __init__(self, code: str, text: str, is_permanent: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.is_permanent = is_permanent


class JobCancelled(StepFailed):
    """Someone cancelled the job."""

    def __init__(self, text: str = "The job was cancelled.") -> None:
        super().__init__("JOBS-CANCELLED", text, is_permanent=True)


class StepTimedOut(StepFailed):
    """The step did not finish within its time limit."""

    def __init__(self, text: str) -> None:
        super().__init__("JOBS-STEP-TIMED-OUT", text)


class JobConflict(JobError):
    """The request is not possible now. `job` is the conflicting job, if there is one."""

    code = "JOBS-CONFLICT"

    def __init__(self, text: str, job: object | None = None) -> None:
        super().__init__(text)
        self.job = job


class IllegalEvent(JobError):
    """The log does not allow this event at this point."""

    code = "JOBS-ILLEGAL-EVENT"


class UnknownWorkflow(JobError):
    """No workflow of this kind and version is registered in this process."""

    code = "JOBS-UNKNOWN-WORKFLOW"


class LeaseLost(BaseException):
    """Another worker holds the job now.

    Not an `Exception`, so that a step's clean-up, which would remove what the other worker is
    building, does not run.
    """


class DatabaseAway(LeaseLost):
    """The database failed inside a step: what the step did outside is not its failure."""


class DatabaseRestored(LeaseLost):
    """This core's database was restored from a backup; whoever works by it has to stop."""
