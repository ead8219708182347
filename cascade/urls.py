"""Where the resources of chatbots, cascades and conversations stand, below `/api/v1/`."""

from django.urls import path

from accounts.rest.views import Router
from cascade import views

router = Router()
router.register("chatbots", views.Chatbots, "chatbot")
router.register("articles", views.Articles, "article")
router.register("strategies", views.Strategies, "strategy")
router.register("models", views.Models, "model")
router.register("prices", views.Prices, "price")
router.register("conversations", views.Conversations, "conversation")
router.register("turns", views.Turns, "turn")
router.register("model-calls", views.ModelCalls, "model-call")
router.register("feedback", views.Feedback, "feedback")
router.register("scorer-versions", views.ScorerVersions, "scorer-version")

urlpatterns = [path("usage", views.Usage.as_view({"get": "retrieve"}), name="usage"), *router.urls]
