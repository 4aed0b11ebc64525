"""Protecting, Force Snapshot, Export and vCenters, as a browser asks for them."""

import io
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from console.jobs.models import Job
from lab.vcsim.process import Vcsim
from protected_machines.choices import MachineKind, PointKind
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.taking import take_recovery_point
from tests.factories import make_machine, make_recovery_point, make_vcenter
from tests.places.agent import CODE, RunningAgent
from tests.reading import as_read

pytestmark = pytest.mark.django_db

FRAGMENT = {"HX-Request": "true"}
PROTECT = "/machines/protect/"


def values_of(html: str) -> dict[str, str]:
    """Return what a browser would send of the form that is shown."""
    values = {}
    for tag in re.findall(r"<input[^>]*>", html):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        is_choice = 'type="radio"' in tag or 'type="checkbox"' in tag
        if name and (not is_choice or "checked" in tag):
            values[name[1]] = value[1] if value else ""
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', html, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        first = re.search(r'value="([^"]*)"', options)
        values[name] = (chosen or first or [None, ""])[1]
    return values


def protect_values(agent: RunningAgent, **changes: object) -> dict[str, object]:
    return {
        "name": "web-01",
        "host": "127.0.0.1",
        "port": agent.port,
        "code": CODE,
        "interval_seconds": 60,
        **changes,
    }


def test_a_machine_is_protected_by_address_and_code(
    admin_client: Client, agent: RunningAgent
) -> None:
    assert 'id="protect-machine"' in admin_client.get(PROTECT, headers=FRAGMENT).content.decode()
    response = admin_client.post(PROTECT, protect_values(agent))
    machine = Machine.objects.get()
    assert response.status_code == 303
    assert response.headers["Location"] == machine.get_absolute_url()
    assert machine.is_live
    assert machine.connection_state == "online"
    assert len(machine.disks) == 2
    assert "BEGIN CERTIFICATE" in machine.agent_certificate_pem


def test_a_wrong_code_is_said_at_its_field_and_protects_nothing(
    admin_client: Client, agent: RunningAgent
) -> None:
    values = protect_values(agent, code="WRONG-CODE-0000")
    response = admin_client.post(PROTECT, values, headers=FRAGMENT)
    assert response.status_code == 422
    assert "code" in response.context["form"].errors
    assert not Machine.objects.exists()


def test_an_address_where_nobody_answers_is_said(admin_client: Client, agent: RunningAgent) -> None:
    agent.kill()
    response = admin_client.post(PROTECT, protect_values(agent))
    assert response.status_code == 422
    assert "host" in response.context["form"].errors


def test_a_name_that_is_taken_does_not_use_up_the_code(
    admin_client: Client, agent: RunningAgent
) -> None:
    make_machine(name="web-01")
    response = admin_client.post(PROTECT, protect_values(agent))
    assert response.status_code == 422
    assert "A machine with this name is already protected here." in response.content.decode()
    assert admin_client.post(PROTECT, protect_values(agent, name="web-02")).status_code == 303


def test_the_command_protects_once(
    agent: RunningAgent, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_file = tmp_path / "code"
    code_file.write_text(f"{CODE}\n")
    arguments = ["--name", "web-01", "--host", "127.0.0.1", "--port", str(agent.port)]
    arguments += ["--code-file", str(code_file), "--interval", "60"]
    for said in ("is protected (", "is already protected ("):
        call_command("protect_machine", *arguments)
        assert f"web-01 {said}" in capsys.readouterr().out
    assert Machine.objects.get().snapshot_interval_seconds == 60
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 12))
    with pytest.raises(CommandError, match="AGENT-PAIRING"):
        call_command(
            "protect_machine",
            *("--name", "other", "--host", "localhost", "--port", str(agent.port)),
        )


def snapshot_url(machine: Machine) -> str:
    return reverse("protected_machines:snapshot-force", args=[machine.pk])


def test_a_double_click_forces_one_snapshot(admin_client: Client) -> None:
    machine = make_machine()
    dialog = admin_client.get(snapshot_url(machine), headers=FRAGMENT).content.decode()
    assert 'id="force-snapshot"' in dialog
    assert "<html" not in dialog
    values = values_of(dialog)
    assert values["kind"] == "incremental"
    for _ in range(2):
        assert admin_client.post(snapshot_url(machine), values).status_code == 303
    job = Job.objects.get()
    assert (job.kind, job.subject_id, job.params) == (
        "snapshot",
        machine.pk,
        {"kind": "incremental"},
    )
    assert job.requested_by_name == "admin"


def test_a_second_snapshot_while_one_runs_is_refused_with_the_reason(admin_client: Client) -> None:
    machine = make_machine()
    for _ in range(2):
        response = admin_client.post(
            snapshot_url(machine),
            {"kind": "base_image", "request_id": str(uuid.uuid4())},
            headers=FRAGMENT,
        )
    assert response.status_code == 409
    assert "cannot start" in response.content.decode()


def test_forcing_a_snapshot_of_a_replica_is_refused_and_says_who_owns_it(
    admin_client: Client,
) -> None:
    machine = make_machine(
        kind=MachineKind.REPLICATED, owner_core_id=uuid.uuid4(), owner_core_name="Headquarters"
    )
    assert "aria-disabled" in admin_client.get(snapshot_url(machine)).content.decode()
    response = admin_client.post(snapshot_url(machine), {"kind": "incremental"})
    assert response.status_code == 409
    assert "Headquarters has owned this machine" in response.content.decode()
    assert not Job.objects.exists()


def test_an_unknown_kind_of_snapshot_is_not_started(admin_client: Client) -> None:
    machine = make_machine()
    values = {"kind": "half", "request_id": str(uuid.uuid4())}
    assert admin_client.post(snapshot_url(machine), values).status_code == 422


def export_url(machine: Machine) -> str:
    return reverse("protected_machines:export-start", args=[machine.pk])


@pytest.fixture
def point(machine: Machine) -> RecoveryPoint:
    return take_recovery_point(machine, PointKind.BASE_IMAGE, uuid.uuid4())


def test_the_export_dialog_offers_places_and_shows_the_findings(
    admin_client: Client, point: RecoveryPoint, vcenter: VCenter
) -> None:
    url = export_url(point.machine)
    dialog = admin_client.get(url, headers=FRAGMENT).content.decode()
    values = values_of(dialog)
    assert 'id="export"' in dialog
    assert values["vm_name"] == "db-01-export"
    assert values["point_id"] == str(point.pk)
    assert "EXPORT-POINT-UNPROVEN" in dialog
    changed = {**values, "check": "1", "vm_name": "another-name"}
    checked = admin_client.post(url, changed, headers=FRAGMENT).content.decode()
    assert values_of(checked)["vm_name"] == "another-name"
    assert not Job.objects.exists()


def test_the_export_dialog_names_what_the_account_may_not_read(
    admin_client: Client, point: RecoveryPoint, vcenter: VCenter, vcsim: Vcsim
) -> None:
    with connect(vcenter) as session:
        host = session.inventory().hosts[-1]
    with vcsim.unreadable(host.moid):
        dialog = as_read(admin_client.get(export_url(point.machine), headers=FRAGMENT))
    assert "PLACEMENT-UNREADABLE" in dialog
    assert f"may not read: host {host.name} (System.Read)" in dialog
    assert f"host:{host.moid}" not in dialog


def test_continue_starts_one_export_with_what_was_chosen(
    admin_client: Client, point: RecoveryPoint, vcenter: VCenter
) -> None:
    url = export_url(point.machine)
    values = values_of(admin_client.get(url).content.decode())
    for _ in range(2):
        assert admin_client.post(url, {**values, "cpus": "3"}).status_code == 303
    job = Job.objects.get()
    assert job.kind == "export"
    assert job.params["point_id"] == str(point.pk)
    assert job.params["options"]["cpus"] == 3
    assert job.params["options"]["vcenter_id"] == str(vcenter.pk)


def test_a_damaged_point_is_not_exported(
    admin_client: Client, point: RecoveryPoint, vcenter: VCenter
) -> None:
    url = export_url(point.machine)
    values = values_of(admin_client.get(url).content.decode())
    point.mark_damaged("disk0.vmdk is missing")
    response = admin_client.post(url, values, headers=FRAGMENT)
    assert response.status_code == 422
    assert "EXPORT-POINT-DAMAGED" in response.content.decode()
    assert not Job.objects.exists()


def test_a_vcenter_that_does_not_answer_is_said_in_the_dialog(
    admin_client: Client, point: RecoveryPoint
) -> None:
    make_vcenter(host="127.0.0.1", port=1)
    dialog = admin_client.get(export_url(point.machine)).content.decode()
    assert "VSPHERE-UNREACHABLE" in dialog


def test_an_export_needs_a_point_and_a_vcenter(admin_client: Client) -> None:
    machine = make_machine()
    assert (
        "no recovery points to export yet" in admin_client.get(export_url(machine)).content.decode()
    )
    make_recovery_point(machine)
    assert "This core has no vCenter yet" in admin_client.get(export_url(machine)).content.decode()
    response = admin_client.post(export_url(machine), {}, headers=FRAGMENT)
    assert response.status_code == 409


ADD = "/vcenters/add/"


def test_a_vcenter_is_added_after_its_thumbprint_was_shown(
    admin_client: Client, vcsim: Vcsim
) -> None:
    assert 'id="add-vcenter"' in admin_client.get(ADD, headers=FRAGMENT).content.decode()
    shown = admin_client.post(ADD, {"host": vcsim.host, "port": vcsim.port}).content.decode()
    values = values_of(shown)
    assert values["thumbprint"] in shown.replace(f'value="{values["thumbprint"]}"', "")
    values |= {"name": "DR", "username": vcsim.username, "password": vcsim.password}
    response = admin_client.post(ADD, values)
    assert response.status_code == 422, "not confirmed yet"
    response = admin_client.post(ADD, {**values, "is_confirmed": "on"})
    assert response.status_code == 303
    vcenter = VCenter.objects.get()
    assert vcenter.is_reachable
    assert vcenter.password == vcsim.password


def test_a_wrong_password_is_not_saved(admin_client: Client, vcsim: Vcsim) -> None:
    values = values_of(
        admin_client.post(ADD, {"host": vcsim.host, "port": vcsim.port}).content.decode()
    )
    values |= {"name": "DR", "username": vcsim.username, "password": "wrong", "is_confirmed": "on"}
    response = admin_client.post(ADD, values)
    assert response.status_code == 422
    assert "VSPHERE-WRONG-PASSWORD" in response.content.decode()
    assert not VCenter.objects.exists()


def test_the_settings_page_lists_vcenters_and_what_can_be_done(
    admin_client: Client, vcenter: VCenter
) -> None:
    page = admin_client.get(reverse("console:settings")).content.decode()
    assert "DR vCenter" in page
    assert "Signed in" in page
    assert "Test connection" in page


def test_a_connection_that_no_longer_works_is_shown(admin_client: Client, vcenter: VCenter) -> None:
    VCenter.objects.update(port=1)
    check = reverse("protected_machines:vcenter-check", args=[vcenter.pk])
    assert admin_client.get(check).status_code == 405
    assert admin_client.post(check).status_code == 303
    page = admin_client.get(reverse("console:settings")).content.decode()
    assert "Failed" in page


def test_a_vcenter_with_a_machine_on_it_stays(admin_client: Client) -> None:
    vcenter = make_vcenter(name="DR")
    machine = make_machine(name="db-01", kind=MachineKind.FAILED_OVER, vcenter=vcenter)
    remove = reverse("protected_machines:vcenter-remove", args=[vcenter.pk])
    why = {"reason": "It was replaced."}
    response = admin_client.post(remove, why, headers=FRAGMENT)
    assert response.status_code == 409
    assert "db-01" in response.content.decode()
    machine.delete()
    assert "Remove DR" in admin_client.get(remove).content.decode()
    unsaid = admin_client.post(remove, {"reason": ""})
    assert unsaid.status_code == 422
    assert "Say why this is done." in unsaid.content.decode()
    assert admin_client.post(remove, why).status_code == 303
    assert not VCenter.objects.exists()


def test_the_account_of_a_vcenter_is_tried_before_it_is_saved(
    admin_client: Client, vcenter: VCenter, vcsim: Vcsim
) -> None:
    url = reverse("protected_machines:vcenter-password", args=[vcenter.pk])
    assert admin_client.get(url).status_code == 200
    values = {"username": vcsim.username, "password": "wrong"}
    assert admin_client.post(url, values).status_code == 422
    values["password"] = vcsim.password
    assert admin_client.post(url, values).status_code == 303


def test_the_command_adds_a_vcenter_and_prints_what_it_pinned(
    vcsim: Vcsim, capsys: Any, tmp_path: Any
) -> None:
    secret = tmp_path / "password"
    secret.write_text(vcsim.password + "\n")
    arguments = ["--name", "DR", "--host", vcsim.host, "--port", str(vcsim.port)]
    arguments += ["--username", vcsim.username, "--password-file", str(secret)]
    for _ in range(2):
        call_command("add_vcenter", *arguments)
    assert "thumbprint" in capsys.readouterr().out
    assert VCenter.objects.get().password == vcsim.password
    with pytest.raises(CommandError, match="VSPHERE-CERTIFICATE-CHANGED"):
        call_command("add_vcenter", *arguments, "--thumbprint", "ab" * 32)
