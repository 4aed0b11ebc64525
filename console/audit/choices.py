"""The stored words of the audit log. They are never renamed: entries and exports contain them."""

from django.db.models import TextChoices


class ActorKind(TextChoices):
    PERSON = "person", "Person"
    TOKEN = "token", "API token"
    CORE = "core", "Another core"
    SHELL = "shell", "Shell"
    SELF = "self", "This core"


class Outcome(TextChoices):
    DONE = "done", "Done"
    REFUSED = "refused", "Refused"
    FAILED = "failed", "Failed"
