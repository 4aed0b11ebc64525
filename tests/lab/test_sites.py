"""What the two sites are made of."""

from pathlib import Path

from lab.places import Ports
from lab.sites import Sites


def test_no_program_is_given_a_password_in_its_command(tmp_path: Path) -> None:
    sites = Sites(tmp_path, Ports.shifted(33_000))
    sites.ensure_secrets()
    groups = (*sites.cores, sites.vcenter)
    passwords = [group.password_file.read_text().strip() for group in groups]
    commands = [" ".join(program.command) for group in groups for program in group.programs()]
    assert len(set(passwords)) == 3
    assert not [command for command in commands for word in passwords if word in command]
