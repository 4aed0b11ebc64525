"""Addresses of what administrators do to users, below /settings/users/."""

from django.urls import path

from console.accounts import user_views

app_name = "users"
urlpatterns = [
    # Prefix /settings/users/
    path("invite/", user_views.invite_user, name="invite"),
    path("invitations/<uuid:invitation_id>/withdraw/", user_views.withdraw, name="withdraw"),
    path("<int:user_id>/role/", user_views.role, name="role"),
    path("<int:user_id>/password/", user_views.password, name="password"),
    path("<int:user_id>/disable/", user_views.disable, name="disable"),
    path("<int:user_id>/enable/", user_views.enable, name="enable"),
    path("<int:user_id>/sign-out/", user_views.sign_out, name="sign-out"),
    path("<int:user_id>/second-factor/", user_views.second_factor, name="second-factor"),
]
