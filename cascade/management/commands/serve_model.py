"""Serve one local language model to the OpenAI SDK: `manage.py serve_model NAME`, on loopback only.

The server is llama.cpp's own, from the package `xllamacpp`. It lives as long as its parent process, so that nothing
is left behind by a supervisor that was killed.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser

import xllamacpp
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cascade.local_models import LocalModel, ModelMissing, catalogue, path_of

CONTEXT_TOKENS = 4096  # prompt and reply together, each request
SLOTS = 2  # requests at once; each slot keeps its last prompt, so a shared beginning is read once
PROMPT_CACHE_MIB = 512
# Every thread waits for the slowest at each step: a core that is busy elsewhere makes more threads slower, not faster.
THREADS = max(1, (os.cpu_count() or 2) // 2)


class Command(BaseCommand):
    help = "Serve one local language model on 127.0.0.1, in OpenAI's wire protocol, until this process's parent ends."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "name", choices=[model.name for model in catalogue().values() if model.port], metavar="NAME"
        )
        parser.add_argument("--port", type=int, help="default: the model's own, from local_models.toml")
        parser.add_argument("--threads", type=int, default=THREADS, help="default here: %(default)s")

    def handle(self, *, name: str, port: int | None, threads: int, **options: object) -> None:
        parent = os.getppid()
        server = start(catalogue()[name], port, threads)
        self.stdout.write(f"{name} answers at {server.listening_address}/v1")
        while os.getppid() == parent:
            time.sleep(1)


def start(model: LocalModel, port: int | None, threads: int) -> xllamacpp.Server:
    """Load the model and listen; returns when it answers. Raises CommandError."""
    params = xllamacpp.CommonParams()
    try:
        params.model.path = str(path_of(model.name, settings.MODELS_ROOT))
    except ModelMissing as missing:
        raise CommandError(missing) from missing
    params.model_alias = {model.name}
    params.hostnames = ["127.0.0.1"]
    params.port = port or model.port
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_parallel = SLOTS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.sampling.temp = 0.0  # the likeliest word each time: facts are to be told, not varied
    params.n_threads_http = SLOTS + 2  # a health check is answered while all slots are busy
    params.ui = params.endpoint_slots = False
    params.verbosity = 1
    try:
        return xllamacpp.Server(params)
    except Exception as problem:  # whatever the C++ side raises
        raise CommandError(f"{model.name} cannot be served on port {params.port}: {problem}") from problem
