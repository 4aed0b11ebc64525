"""The page behind a one-time link, for people who cannot sign in yet."""

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from console.accounts.invitations import accept, find_open
from console.accounts.user_forms import AcceptForm


@login_not_required
@never_cache
@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Let whoever has the link choose name and password, once; then they sign in with them."""
    now = timezone.now()
    found = find_open(token, now)
    if found is None:
        return render(request, "account/invitation.html", {}, status=404)
    form = AcceptForm(request.POST or None, invitation=found)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data.get("username", found.name)
        if accept(found, name, form.cleaned_data["password1"], now) is None:
            return render(request, "account/invitation.html", {}, status=404)
        messages.success(request, f"Your password is set. Sign in as {name}.")
        return redirect("account_login")
    context = {"form": form, "invitation": found}
    status = 422 if request.method == "POST" else 200
    return render(request, "account/invitation.html", context, status=status)
