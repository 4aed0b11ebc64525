"""Sign-in pages: those of django-allauth that a console without e-mail and sign-up needs."""

from allauth.account import views
from django.urls import include, path

from console.accounts import invitation_views

urlpatterns = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("confirm/", views.reauthenticate, name="account_reauthenticate"),
    path("invitation/<str:token>/", invitation_views.invitation, name="account_invitation"),
    path("password/", views.password_change, name="account_change_password"),
    path("second-factor/", include("allauth.mfa.urls")),
]
