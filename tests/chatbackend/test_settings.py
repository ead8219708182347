"""Settings fit a public server, are all explained, and the tables are what the models say."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.management import call_command

PUBLIC = {
    "DEMO": "0",
    "DEBUG": "0",
    "ALLOWED_HOSTS": "chat.example",
    "SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRST",
    "SECRET_SEALING_KEYS": Fernet.generate_key().decode(),
}


def check_deployment(environment: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "chatbackend.settings", **environment}
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)


def test_a_public_servers_settings_pass_every_deployment_check():
    checked = check_deployment(PUBLIC)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_SEALING_KEYS"])
def test_a_public_server_does_not_start_without_its_secrets(name):
    checked = check_deployment(PUBLIC | {name: ""})
    assert checked.returncode != 0
    assert f"{name} is not set" in checked.stderr


def test_a_database_without_an_owner_of_its_own_is_refused():
    checked = check_deployment(PUBLIC | {"DATABASE_OWNER_URL": ""})
    assert checked.returncode != 0
    assert "DATABASE_OWNER_URL is not set" in checked.stderr


def test_no_mail_server_may_be_said_by_an_empty_name():
    checked = check_deployment(PUBLIC | {"EMAIL_URL": ""})
    assert checked.returncode == 0, checked.stderr


def test_every_setting_is_explained():
    read = set(
        re.findall(
            r'(?:env\.\w+|laptop_secret|rate)\(\s*"(\w+)"', (settings.BASE_DIR / "chatbackend/settings.py").read_text()
        )
    )
    explained = set(re.findall(r"^# ([A-Z_]+)=", (settings.BASE_DIR / ".env.example").read_text(), re.MULTILINE))
    assert explained == read


def test_the_tables_are_what_the_models_say(database):
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
