"""The vCenters of this core: add one with a confirmed certificate, test it, remove it."""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

import vsphere
from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from protected_machines.access import get_vcenter_for
from protected_machines.exports.forms import (
    RemoveForm,
    VCenterAddressForm,
    VCenterForm,
    VCenterPasswordForm,
)
from protected_machines.exports.vcenters import add_vcenter, check_vcenter
from protected_machines.models import VCenter
from vsphere.errors import VSphereError


@require_http_methods(["GET", "HEAD", "POST"])
def vcenter_add(request: HttpRequest) -> HttpResponse:
    """First show the certificate at the address; then sign in and save."""
    if request.method != "POST":
        return _dialog(request, {"form": VCenterAddressForm(), "is_address": True})
    if "thumbprint" in request.POST:
        return _sign_in_and_save(request)
    address = VCenterAddressForm(request.POST)
    if not address.is_valid():
        return _dialog(request, {"form": address, "is_address": True}, 422)
    host, port = address.cleaned_data["host"], address.cleaned_data["port"]
    try:
        thumbprint = vsphere.fetch_thumbprint(host, port)
    except VSphereError as error:
        address.add_error("host", str(error))
        return _dialog(request, {"form": address, "is_address": True}, 422)
    form = VCenterForm(initial={"host": host, "port": port, "thumbprint": thumbprint, "name": host})
    return _dialog(request, {"form": form, "thumbprint": thumbprint, "host": host, "port": port})


def _sign_in_and_save(request: HttpRequest) -> HttpResponse:
    form = VCenterForm(request.POST)
    if form.is_valid():
        values = {key: value for key, value in form.cleaned_data.items() if key != "is_confirmed"}
        if VCenter.objects.filter(name=values["name"]).exists():
            form.add_error("name", "A vCenter with this name already exists.")
        else:
            try:
                vcenter = add_vcenter(**values)
            except ValidationError as error:
                form.add_error(None, error.messages)
            except VSphereError as error:
                form.add_error(None, f"{error} [{error.code}]")
            else:
                return redirect_after(request, _home(), f"{vcenter.name} added.")
    context = {
        "form": form,
        "thumbprint": request.POST["thumbprint"],
        "host": request.POST.get("host", ""),
        "port": request.POST.get("port", ""),
    }
    return _dialog(request, context, 422)


@require_POST
def vcenter_check(request: HttpRequest, vcenter_id: UUID) -> HttpResponse:
    """Sign in to the vCenter now, and save the result."""
    vcenter = get_vcenter_for(request.user, vcenter_id)
    if check_vcenter(vcenter):
        return redirect_after(
            request, _home(), f"Signed in to {vcenter.name}: {vcenter.check_text}."
        )
    return redirect_after(request, _home())


@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest, vcenter_id: UUID) -> HttpResponse:
    """Sign in with another account or password, and save it."""
    vcenter = get_vcenter_for(request.user, vcenter_id)
    form = VCenterPasswordForm(request.POST or None, initial={"username": vcenter.username})
    if request.method == "POST" and form.is_valid():
        try:
            add_vcenter(
                name=vcenter.name,
                host=vcenter.host,
                port=vcenter.port,
                thumbprint=vcenter.thumbprint,
                **form.cleaned_data,
            )
        except VSphereError as error:
            form.add_error(None, f"{error} [{error.code}]")
        else:
            return redirect_after(request, _home(), f"Account for {vcenter.name} saved.")
    return render_dialog(
        request,
        "protected_machines/_vcenter_password.html",
        "Account",
        {"form": form, "vcenter": vcenter},
        422 if request.method == "POST" else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
def vcenter_remove(request: HttpRequest, vcenter_id: UUID) -> HttpResponse:
    """Remove the vCenter, unless a machine runs there."""
    vcenter = get_vcenter_for(request.user, vcenter_id)
    form = RemoveForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return render_dialog(
            request,
            "protected_machines/_remove_vcenter.html",
            f"Remove {vcenter.name}",
            {"form": form, "vcenter": vcenter},
            422 if request.method == "POST" else 200,
        )
    try:
        vcenter.delete()
    except ProtectedError as error:
        names = ", ".join(sorted(str(machine) for machine in error.protected_objects))
        return refuse(
            request,
            f"{vcenter.name} cannot be removed while failed-over machines run there: {names}.",
        )
    return redirect_after(request, _home(), f"{vcenter.name} removed.")


def _home() -> str:
    return f"{reverse('console:settings')}#vcenters"


def _dialog(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return render_dialog(
        request, "protected_machines/_add_vcenter.html", "Add vCenter", context, status
    )
