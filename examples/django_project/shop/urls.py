from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from shop import views

urlpatterns = [
    path("", views.home, name="home"),
    path("login/", LoginView.as_view(template_name="shop/login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/<int:pk>/advance/", views.advance_order, name="advance-order"),
    path("prices.csv", views.price_list, name="prices"),
    path("jobs/stock/", views.start_recount, name="recount"),
    path("jobs/prices/", views.start_price_list, name="price-list"),
    path("messages/", views.send_message, name="send-message"),
    path("notifier/", include("django_bridge.urls")),  # a page that stays open gets its next token there
]
