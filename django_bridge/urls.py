"""`path("notifier/", include("django_bridge.urls"))`"""

from __future__ import annotations

from django.urls import path

from django_bridge import views

app_name = "django_bridge"
urlpatterns = [
    path("token/", views.token, name="token"),
    path("grants", views.grants, name="grants"),
    path("history/", views.history, name="history"),
]
