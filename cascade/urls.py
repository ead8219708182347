"""Where the resources of chatbots, cascades and conversations stand, below `/api/v1/`."""

from django.urls import path

from accounts.rest.views import Router
from cascade import knowledge_api, learning_api, memory_api, scorer_api, views

router = Router()
router.register("chatbots", views.Chatbots, "chatbot")
router.register("articles", knowledge_api.Articles, "article")
router.register("uploads", knowledge_api.Uploads, "upload")
router.register("saved-replies", knowledge_api.SavedReplies, "saved-reply")
router.register("remembered-answers", memory_api.Remembered, "remembered-answer")
router.register("strategies", views.Strategies, "strategy")
router.register("models", views.Models, "model")
router.register("prices", views.Prices, "price")
router.register("conversations", views.Conversations, "conversation")
router.register("turns", views.Turns, "turn")
router.register("model-calls", views.ModelCalls, "model-call")
router.register("feedback", views.Feedback, "feedback")
router.register("proposals", learning_api.Proposals, "proposal")
router.register("shadow-trials", learning_api.ShadowTrials, "shadow-trial")
router.register("drift-readings", learning_api.DriftReadings, "drift-reading")
router.register("scorer-versions", scorer_api.ScorerVersions, "scorer-version")
router.register("scorer-calibrations", scorer_api.ScorerCalibrations, "scorer-calibration")

urlpatterns = [
    path("usage", views.Usage.as_view({"get": "retrieve"}), name="usage"),
    path("gaps", knowledge_api.Gaps.as_view({"get": "retrieve"}), name="gaps"),
    *router.urls,
]
