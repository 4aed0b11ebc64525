"""Every stored word of protected machines, chosen once and never renamed."""

from django.db.models import TextChoices


class MachineKind(TextChoices):
    """What a machine is to this core."""

    PROTECTED = "protected", "Protected"
    REPLICATED = "replicated", "Replicated"
    PENDING_FAILOVER = "pending_failover", "Failing over"
    FAILED_OVER = "failed_over", "Failed over"
    PENDING_FAILBACK = "pending_failback", "Pending failback"
    FAILED_BACK = "failed_back", "Failed back, not committed"
    RECOVERY_POINTS_ONLY = "recovery_points_only", "Recovery points only"


class ConnectionState(TextChoices):
    """What this core knows of its connection to an agent or another core."""

    ONLINE = "online", "Online"
    UNREACHABLE = "unreachable", "Unreachable"
    AUTHENTICATION_ERROR = "authentication_error", "Authentication error"
    UNKNOWN = "unknown", "Unknown"


class PointKind(TextChoices):
    """Whether a recovery point stands alone or needs its parent."""

    BASE_IMAGE = "base_image", "Base image"
    INCREMENTAL = "incremental", "Incremental"


class PointState(TextChoices):
    """What the last proof of a recovery point showed."""

    UNPROVEN = "unproven", "Not proven yet"
    PROVEN = "proven", "Proven"
    DAMAGED = "damaged", "Damaged"


# Machines that this core takes recovery points of if it owns them.
LIVE_KINDS = (MachineKind.PROTECTED, MachineKind.FAILED_OVER, MachineKind.PENDING_FAILBACK)
# Machines that run in a VM that this core created.
VM_KINDS = (MachineKind.FAILED_OVER, MachineKind.PENDING_FAILBACK)
# Only the core at which a machine runs in a VM holds it as one of these, and it owns the machine.
KINDS_OWNED_HERE = (MachineKind.PENDING_FAILOVER, *VM_KINDS)
# A machine of these runs elsewhere, under another owner.
KINDS_OWNED_ELSEWHERE = (MachineKind.REPLICATED, MachineKind.FAILED_BACK)
