"""How views get a job, and the rules of who may act on which kind."""

import dataclasses
from collections.abc import Mapping
from uuid import UUID

from console.accounts.access import User, check_may, get_for, refusal_for
from console.accounts.roles import Permission
from console.jobs.models import Job, JobQuerySet
from console.jobs.policy import Act, Acts, possible_acts

RULES = {
    "jobs:jobs": Permission.WATCH,
    "jobs:job": Permission.WATCH,
    # Acts on a job follow the rule of its kind.
    "jobs:job-cancel": Permission.WATCH,
    "jobs:job-retry": Permission.WATCH,
    "jobs:job-undo": Permission.WATCH,
    "jobs:job-release": Permission.WATCH,
    "jobs:job-close": Permission.WATCH,
}


@dataclasses.dataclass(frozen=True)
class JobRule:
    """What it takes to act on jobs of a kind: to retry one, and to cancel, undo or end one."""

    act: Permission = Permission.CONFIGURE
    retry: Permission = Permission.CONFIGURE

    def of(self, act: str) -> Permission:
        return self.retry if act == "retry" else self.act


_job_rules: dict[str, JobRule] = {}


def register_job_rules(rules: Mapping[str, JobRule]) -> None:
    """Add the rules of kinds of jobs. Called from an app's `ready()`."""
    _job_rules.update(rules)


def job_rule(kind: str) -> JobRule:
    """Return the rule of a kind; jobs of a kind without one are left to administrators."""
    return _job_rules.get(kind, JobRule())


def jobs_for(user: User) -> JobQuerySet:
    """Return the jobs that a user may see, with their steps."""
    jobs = Job.objects.select_related("requested_by", "retry_of").prefetch_related("steps")
    return jobs if user.is_authenticated else jobs.none()


def get_job_for(user: User, job_id: UUID) -> Job:
    """Return a job to show, or answer 404."""
    return get_for(user, jobs_for(user), id=job_id)


def get_job_for_act(user: User, job_id: UUID, act: str) -> Job:
    """Return a job to act on; `act` is a field of `Acts`.

    Answers 404 if there is no such job, and 403 if the user may not do that to jobs of its kind.
    """
    job = get_for(user, jobs_for(user), id=job_id)
    check_may(user, job_rule(job.kind).of(act))
    return job


def acts_for(user: User, job: Job) -> Acts:
    """Return what the user can do to a job now; what their role does not allow, for that reason."""
    rule, possible = job_rule(job.kind), possible_acts(job)
    allowed = {
        field.name: refusal_for(user, rule.of(field.name)) for field in dataclasses.fields(Acts)
    }
    return dataclasses.replace(
        possible, **{name: Act(refusal) for name, refusal in allowed.items() if refusal}
    )
