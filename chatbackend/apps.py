from django.apps import AppConfig


class ChatbackendConfig(AppConfig):
    name = "chatbackend"
    verbose_name = "How people reach us"
