"""The screen of a machine, where the server shows one."""

import pytest

from tests.vsphere.screens import PICTURE, picture_of, showing
from tests.vsphere.site import World
from vsphere.errors import NoScreen


def test_the_screen_of_a_machine_is_a_picture(world: World) -> None:
    assert picture_of(world, world.import_one()) == PICTURE


def test_a_session_that_has_ended_is_opened_again(world: World) -> None:
    moid = world.import_one()
    world.session.calls.stub.cookie = 'vmware_soap_session="gone"; Path=/'
    assert picture_of(world, moid) == PICTURE


@pytest.mark.parametrize("picture", [None, b"<html>a proxy's page</html>"])
def test_what_is_no_picture_is_no_screen(world: World, picture: bytes | None) -> None:
    moid = world.import_one()
    with (
        showing(world.vcsim, moid, picture),
        pytest.raises(NoScreen, match="CreateScreenshot") as caught,
    ):
        world.session.take_screenshot(moid)
    assert caught.value.code == "VSPHERE-NO-SCREEN"


def test_a_machine_that_does_not_exist_has_no_screen(world: World) -> None:
    with pytest.raises(NoScreen, match="404"):
        world.session.take_screenshot("vm-4711")
