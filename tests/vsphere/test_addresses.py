"""Which disk goes where: by what servers are known to say."""

from pathlib import Path
from typing import Any

import pytest

from lab.vcsim.process import write_certificate
from tests.vsphere.disks import MIB, disk_of
from vsphere import Credentials
from vsphere.addresses import match_disks, upload_address
from vsphere.api import vim
from vsphere.door import Door
from vsphere.errors import DisksUnmatched
from vsphere.spec import assign_slots
from vsphere.tls import PinnedContext

THUMBPRINT = "AB" * 32


def device(name: str, url: str = "https://*/nfc/t/disk-0.vmdk", **more: Any) -> Any:
    values = {"key": f"/vm-1/{name}", "importKey": f"/web-01/{name}", "disk": True} | more
    values.setdefault("sslThumbprint", "")
    return vim.HttpNfcLease.DeviceUrl(url=url, **values)


def match(offered: list[Any], *disks: Any) -> dict[int, str]:
    found = match_disks("Import web-01", offered, disks, assign_slots(disks))
    return {number: one.key for number, one in found.items()}


def test_names_count_and_not_the_order() -> None:
    offered = [device("ParaVirtualSCSIController0:1"), device("ParaVirtualSCSIController0:0")]
    assert match(offered, disk_of(0), disk_of(1)) == {
        0: "/vm-1/ParaVirtualSCSIController0:0",
        1: "/vm-1/ParaVirtualSCSIController0:1",
    }


def test_what_is_no_disk_is_passed_over() -> None:
    offered = [device("nvram", disk=False), device("VirtualIDEController0:0")]
    assert match(offered, disk_of(0, controller="ide")) == {0: "/vm-1/VirtualIDEController0:0"}


def test_the_order_counts_where_names_say_nothing_and_sizes_differ() -> None:
    offered = [device("disk:0"), device("disk:1")]
    disks = [disk_of(0, 64 * MIB), disk_of(1, 65 * MIB)]
    assert match(offered, *disks) == {0: "/vm-1/disk:0", 1: "/vm-1/disk:1"}


def test_equal_sizes_without_names_are_not_guessed_at() -> None:
    with pytest.raises(DisksUnmatched, match="have the same size"):
        match([device("disk:0"), device("disk:1")], disk_of(0), disk_of(1))


def test_another_number_of_disks_is_refused() -> None:
    with pytest.raises(DisksUnmatched, match="expects 2 disks"):
        match([device("disk:0"), device("disk:1")], disk_of(0))


def door(host: str = "vc.example", port: int = 8443, **more: Any) -> Door:
    return Door(Credentials(host, port, "user", "password", THUMBPRINT, **more), 5)


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("https://*/ha-nfc/t/d.vmdk", "esx", "https://esx:8443/ha-nfc/t/d.vmdk"),
        ("https://*:444/nfc/t/d.vmdk", "esx", "https://esx:444/nfc/t/d.vmdk"),
        ("https://*/nfc/t/d.vmdk", "fd00::1", "https://[fd00::1]:8443/nfc/t/d.vmdk"),
        ("https://host-7.example/nfc/t/d", "vc", "https://host-7.example:443/nfc/t/d"),
        ("https://host-7.example:902/nfc/t?x=1", "vc", "https://host-7.example:902/nfc/t?x=1"),
    ],
)
def test_a_star_stands_for_the_host_of_the_connection(url: str, host: str, expected: str) -> None:
    assert upload_address(device("d", url), door(host))[0] == expected


def test_the_host_s_certificate_is_pinned_to_what_the_server_says(tmp_path: Path) -> None:
    given = upload_address(device("d", sslThumbprint="CD:" * 19 + "CD"), door())[1]
    assert isinstance(given, PinnedContext)
    assert given.thumbprints == {"cd" * 20}


def test_a_whole_certificate_comes_before_a_thumbprint(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)

    class Newer:
        """A device as vSphere 9 describes it, which the negotiated version does not know."""

        url = "https://*/nfc/t/d.vmdk"
        sslThumbprint = "CD" * 20
        sslCertificate = certificate.read_text()

    given = upload_address(Newer(), door())[1]
    assert isinstance(given, PinnedContext)
    assert {len(thumbprint) for thumbprint in given.thumbprints} == {64}


def test_without_a_thumbprint_the_connection_s_own_host_is_trusted_as_before() -> None:
    ours = door()
    assert upload_address(device("d"), ours)[1] is ours.context


def test_without_a_thumbprint_another_host_needs_an_authority() -> None:
    given = upload_address(device("d", "https://host-7/nfc/t/d"), door())[1]
    assert not isinstance(given, PinnedContext)
    assert given.check_hostname
