"""The vCenters of this core: add one, test it, open a session."""

import logging
from contextlib import AbstractContextManager
from uuid import UUID

import vsphere
from console.jobs.workflow import StepFailed
from protected_machines.models import VCenter
from vsphere import Credentials, Session
from vsphere.errors import VSphereError

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0


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


def connect(
    vcenter: VCenter, timeout_seconds: float = TIMEOUT_SECONDS
) -> AbstractContextManager[Session]:
    """Open a session; leaving it signs out.

    Raises:
        VSphereUnreachable, WrongPassword, CertificateChanged: see vsphere/errors.py.
    """
    return vsphere.connect(credentials_of(vcenter), timeout_seconds=timeout_seconds)


def check_vcenter(vcenter: VCenter) -> bool:
    """Sign in, save the result, and return whether it worked."""
    try:
        with connect(vcenter) as session:
            about = session.about()
    except VSphereError as error:
        logger.warning("check vcenter vcenter_id=%s error_code=%s", vcenter.pk, error.code)
        vcenter.record_check(False, str(error))
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
