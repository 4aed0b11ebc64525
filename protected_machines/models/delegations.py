"""Delegations: why an agent that does not know this core answers it."""

from django.db import models

from protected_machines.models.machines import Machine


class Delegation(models.Model):
    """What a core that a machine trusts has signed for this core: it may protect the machine.

    One of each issuing core, the newest. They stay when the machine's owner changes: an older
    recovery point trusts the core that protected the machine then.
    """

    machine = models.ForeignKey(Machine, on_delete=models.CASCADE, related_name="delegations")
    issuer_fingerprint = models.CharField(max_length=64)
    number = models.PositiveIntegerField()
    certificate_pem = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["machine", "issuer_fingerprint"], name="delegation_once_of_an_issuer"
            )
        ]

    def __str__(self) -> str:
        return f"{self.machine}, {self.issuer_fingerprint[:12]}, {self.number}"
