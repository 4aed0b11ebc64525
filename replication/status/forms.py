"""The form for objectives."""

from typing import Any

from django import forms

from replication.models import RecoveryObjective

_MINUTE_SECONDS = 60
_YEAR_MINUTES = 366 * 24 * 60


class ObjectivesForm(forms.Form):
    """The objectives of a core or a machine, in minutes; empty for the default."""

    point_minutes = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=_YEAR_MINUTES,
        label="Recovery point objective, in minutes",
        help_text="How much data may be lost. Empty: as much as the snapshot schedule allows.",
    )
    recovery_minutes = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=_YEAR_MINUTES,
        label="Recovery time objective, in minutes",
        help_text="How long a recovery may take. Empty: 4 hours.",
    )

    def __init__(self, *args: Any, objective: RecoveryObjective, is_machine: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._objective = objective
        for name, seconds in (
            ("point_minutes", objective.point_seconds),
            ("recovery_minutes", objective.recovery_seconds),
        ):
            if seconds is not None:
                self.fields[name].initial = seconds // _MINUTE_SECONDS
            if is_machine:
                text = self.fields[name].help_text.partition(" Empty:")[0]
                self.fields[name].help_text = f"{text} Empty: as for its source core."

    def save(self) -> None:
        """Save them; without any, the defaults hold again."""
        point, recovery = (
            minutes and minutes * _MINUTE_SECONDS
            for minutes in (
                self.cleaned_data["point_minutes"],
                self.cleaned_data["recovery_minutes"],
            )
        )
        objective = self._objective
        if point is None and recovery is None:
            RecoveryObjective.objects.filter(pk=objective.pk).delete()
            return
        objective.point_seconds, objective.recovery_seconds = point, recovery
        objective.save()
