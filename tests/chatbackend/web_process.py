"""A web process as in production, but for its scorer: `uvicorn tests.chatbackend.web_process:application`."""

from chatbackend import asgi  # isort: skip  sets Django up

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend.consumers import ChatConsumer, answer_with
from tests.cast import ScriptedScorer

engine = Engine({"openai": OpenAIProvider("key")}, ScriptedScorer({"good": 0.9}))
sockets = URLRouter([path("ws/chat/", ChatConsumer.as_asgi(answer=answer_with(lambda: engine)))])
application = ProtocolTypeRouter({"http": asgi.http, "websocket": sockets, "lifespan": asgi.lifespan})
