"""The vCenters of this core: add one, test it, open a session."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from celery.signals import worker_process_shutdown, worker_shutdown

import vsphere
from console.jobs.workflow import StepFailed, Waiting
from console.sections import Notice
from protected_machines.errors import SignInStopped
from protected_machines.locks import alone
from protected_machines.models import VCenter
from vsphere import Credentials, Session, SharedSessions
from vsphere.errors import ConnectionFailed, VSphereError, WrongPassword

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
# At most this long one worker waits for another that signs in to the same vCenter.
_SIGN_IN_SECONDS = 60
LOOK_AGAIN_SECONDS = 10.0

# Of this worker process. Its jobs use them one after the other.
sessions = SharedSessions()


def end_sessions(**_: object) -> None:
    """Sign out everywhere: this worker ends."""
    sessions.end_all()


worker_process_shutdown.connect(end_sessions)
worker_shutdown.connect(end_sessions)


def credentials_of(vcenter: VCenter) -> Credentials:
    """Return how to sign in there.

    Raises:
        PasswordUnreadable: the password was encrypted with another secret key.
    """
    return Credentials(
        host=vcenter.host,
        port=vcenter.port,
        username=vcenter.username,
        password=vcenter.password,
        thumbprint=vcenter.thumbprint or None,
    )


@contextmanager
def connect(vcenter: VCenter, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[Session]:
    """Open a session for a page; leaving it signs out.

    Raises:
        SignInStopped: it refused the account before.
        VSphereUnreachable, WrongPassword, CertificateChanged: see vsphere/errors.py.
    """
    vcenter.check_may_sign_in()
    try:
        with open_session(vcenter, timeout_seconds) as session:
            yield session
    except WrongPassword as error:
        vcenter.record_refusal(str(error))
        raise


def open_session(
    vcenter: VCenter, timeout_seconds: float = TIMEOUT_SECONDS
) -> AbstractContextManager[Session]:
    """Open a session without a look at the database, as in another thread."""
    return vsphere.connect(credentials_of(vcenter), timeout_seconds=timeout_seconds)


def lend_session(vcenter: VCenter, operation: str = "") -> AbstractContextManager[Session]:
    """Lend one of this worker's sessions to a job; `operation` names it in the vCenter's log.

    Raises:
        SignInStopped: the vCenter refused the account, and nobody has changed it since.
        VSphereUnreachable, WrongPassword, CertificateChanged: see vsphere/errors.py.
    """
    return sessions.lend(
        credentials_of(vcenter),
        TIMEOUT_SECONDS,
        operation=operation,
        gate=lambda: _signing_in(vcenter),
    )


@contextmanager
def _signing_in(vcenter: VCenter) -> Iterator[None]:
    """Let one worker after the other sign in, so that a wrong password is tried only once."""
    with alone(f"sign-in:{vcenter.pk}", _SIGN_IN_SECONDS):
        vcenter.refresh_from_db(fields=["refused_text"])
        vcenter.check_may_sign_in()
        try:
            yield
        except WrongPassword as error:
            if vcenter.record_refusal(str(error)):
                logger.error("vcenter refused the account vcenter_id=%s", vcenter.pk)
            raise


@contextmanager
def until_it_answers(vcenter: VCenter) -> Iterator[None]:
    """Have a step wait while the vCenter cannot be looked into. For looks, which change nothing.

    Raises:
        Waiting: it is away, or refuses to be signed in to.
    """
    try:
        yield
    except (ConnectionFailed, SignInStopped) as error:
        raise Waiting(
            f"{error} The step continues once {vcenter.name} can be used again.", LOOK_AGAIN_SECONDS
        ) from error


def check_vcenter(vcenter: VCenter) -> bool:
    """Sign in, save the result, and return whether it worked."""
    try:
        with open_session(vcenter) as session:
            about = session.about()
    except VSphereError as error:
        logger.warning("check vcenter vcenter_id=%s error_code=%s", vcenter.pk, error.code)
        vcenter.record_check(False, str(error))
        if isinstance(error, WrongPassword):
            vcenter.record_refusal(str(error))
        return False
    vcenter.record_check(True, f"{about.name} {about.version}".strip())
    return True


def add_vcenter(
    *, name: str, host: str, port: int, username: str, password: str, thumbprint: str
) -> VCenter:
    """Sign in and save the vCenter. Idempotent by name: a second call updates it.

    Raises:
        VSphereError: signing in failed; nothing is saved.
    """
    credentials = Credentials(
        host=host, port=port, username=username, password=password, thumbprint=thumbprint
    )
    with vsphere.connect(credentials, timeout_seconds=TIMEOUT_SECONDS) as session:
        about = session.about()
    vcenter = VCenter.objects.filter(name=name).first() or VCenter(name=name)
    vcenter.host, vcenter.port, vcenter.username = host, port, username
    vcenter.thumbprint = thumbprint
    vcenter.password = password
    vcenter.full_clean(exclude=["password_encrypted"])
    if vcenter._state.adding:
        vcenter.save(force_insert=True)
    else:
        vcenter.save(update_fields=["host", "port", "username", "thumbprint", "password_encrypted"])
    vcenter.record_check(True, f"{about.name} {about.version}".strip())
    return vcenter


def get_vcenter(vcenter_id: UUID | str) -> VCenter:
    """Return the vCenter.

    Raises:
        StepFailed: it has been removed from this core's settings.
    """
    vcenter = VCenter.objects.filter(pk=vcenter_id).first()
    if vcenter is None:
        raise StepFailed(
            "MACHINE-VCENTER-MISSING",
            f"The vCenter {vcenter_id} has been removed from this core's settings.",
        )
    return vcenter


def refusal_notice() -> Notice | None:
    """Return what every page says while a vCenter refuses the account that this core has."""
    refused = VCenter.objects.exclude(refused_text="").values_list("name", "username")
    if not refused:
        return None
    named = ", ".join(f"{name} (account {username})" for name, username in refused)
    text = (
        f"{named}. So that the account is not locked, nothing signs in there now, and jobs that "
        "need it wait. Under Settings, enter its password, or choose Test connection if it is "
        "right."
    )
    return Notice("bad", "A vCenter refuses the account", text, SignInStopped.code)
