"""A tenant's record source is asked safely, and believed no further than it deserves."""

import asyncio
import contextlib
import gzip
import json
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts import pinned
from accounts.models import CustomerRecord
from accounts.pinned import signature
from cascade.record_source import RecordSource, RecordSourceError, fetch, merge
from cascade.values import Record
from tests.record_server import SECRET, Answer, RecordServer, make_certificate, record

NOW = datetime.now(UTC)


async def code_of(server: RecordServer, **changes) -> str:
    with pytest.raises(RecordSourceError) as caught:
        await fetch(server.source(**changes), "ann", "Where is my order?")
    return caught.value.code


# --- a good source ------------------------------------------------------------------------


async def test_the_records_of_the_customer_who_asks_come_back():
    with RecordServer([record("A-1", data={"status": "shipped", "total": 12.5})]) as server:
        (fresh,) = await fetch(server.source(), "ann", "Where is my order?")
    assert (fresh.type, fresh.external_id, fresh.data) == ("order", "A-1", {"status": "shipped", "total": 12.5})
    assert json.loads(server.asked[0].body) == {"customer_id": "ann", "question": "Where is my order?"}


async def test_the_tenant_can_tell_that_we_ask():
    with RecordServer([]) as server:
        await fetch(server.source(), "ann", "?")
    (asked,) = server.asked
    message_id, timestamp = asked.headers["webhook-id"], int(asked.headers["webhook-timestamp"])
    assert asked.headers["webhook-signature"] == signature(SECRET, message_id, timestamp, asked.body)
    assert abs(timestamp - time.time()) < 5


def test_signatures_are_those_of_the_standard():
    """The example of the Standard Webhooks libraries."""
    import base64

    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# --- slow, failing, lying -----------------------------------------------------------------


async def test_a_dripping_source_costs_no_more_than_the_deadline():
    with RecordServer(Answer((b" " for _ in range(1000)), pause=0.05)) as server:
        started = time.monotonic()
        assert await code_of(server, deadline_seconds=0.4) == "timeout"
        assert time.monotonic() - started < 1.5


async def test_a_silent_source_costs_no_more_than_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = RecordSource(f"http://127.0.0.1:{silent.getsockname()[1]}/", SECRET, True, deadline_seconds=0.3)
        with pytest.raises(RecordSourceError) as caught:
            await fetch(source, "ann", "?")
    assert caught.value.code == "timeout"


async def test_a_hanging_name_server_costs_no_more_than_the_deadline(monkeypatch):
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: time.sleep(1) or [])
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource("https://slow.example/", SECRET, deadline_seconds=0.2), "ann", "?")
    assert caught.value.code == "timeout"


@pytest.fixture
def resolver(monkeypatch):
    """Names at `hanging` are not resolved before the test is over, `slow` takes a moment; all others are loopback."""
    asked, over = [], threading.Event()

    def resolve(host, port):
        asked.append(host)
        if "hanging" in host:
            over.wait(30)
        elif "slow" in host:
            time.sleep(0.3)
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(pinned, "_resolve", resolve)
    yield asked
    over.set()
    while pinned._LOOK_UPS:  # the next test finds none
        time.sleep(0.01)


async def asked_of(host, **changes) -> str:
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource(f"https://{host}/", SECRET, **{"deadline_seconds": 0.2, **changes}), "ann", "?")
    return caught.value.code


async def test_a_tenant_whose_name_server_hangs_keeps_nobody_else_waiting(resolver):
    for _ in range(8):
        assert await asked_of("hanging.example") == "timeout"
    assert resolver == ["hanging.example"]
    with RecordServer([record()]) as server:
        assert len(await fetch(server.source("fast.example"), "ann", "?")) == 1


async def test_a_name_whose_look_up_hangs_fails_at_once(resolver):
    assert await asked_of("hanging.example") == "timeout"
    began = time.monotonic()
    assert await asked_of("hanging.example") == "timeout"
    assert time.monotonic() - began < 0.1


async def test_turns_that_ask_the_same_name_at_the_same_time_look_it_up_once(resolver):
    with RecordServer([record()]) as server:
        impatient = asyncio.create_task(asked_of("slow.example"))
        answers = await asyncio.gather(*(fetch(server.source("slow.example"), "ann", "?") for _ in range(5)))
    assert [len(records) for records in answers] == [1] * 5
    assert await impatient == "timeout"  # who gives up takes nobody along
    assert resolver == ["slow.example"]


async def test_no_more_names_are_looked_up_at_once_than_a_process_bears(resolver):
    most = pinned._MOST_LOOK_UPS
    hosts = [f"hanging-{i}.example" for i in range(most)]
    await asyncio.gather(*map(asked_of, hosts))
    assert await asked_of("fast.example") == "unreachable"
    assert sorted(resolver) == sorted(hosts)


async def test_being_cancelled_is_not_taken_for_a_timeout():
    with RecordServer(Answer((b" " for _ in range(1000)), pause=0.05)) as server:
        task = asyncio.create_task(fetch(server.source(), "ann", "?"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 404, 500, 503])
async def test_anything_but_200_is_a_failure(status):
    with RecordServer(Answer([], status=status, headers={"Location": "/elsewhere"})) as server:
        assert await code_of(server) == "http_status"
        assert [asked.path for asked in server.asked] == ["/records"]  # nobody was redirected


async def test_a_broken_connection_is_a_failure():
    with RecordServer(Answer([b"{"], headers={"Content-Length": "500"})) as server:
        assert await code_of(server) == "malformed"


async def test_a_closed_port_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource(f"http://127.0.0.1:{port}/", SECRET, True), "ann", "?")
    assert caught.value.code == "unreachable"


async def test_a_flood_is_not_read_to_its_end():
    sent = []

    def flood(_):
        return Answer(sent.append(1) or b" " * 10_000 for _ in range(100_000))

    with RecordServer(flood) as server:
        assert await code_of(server) == "too_large"
    assert len(sent) < 5_000


async def test_a_gzip_bomb_is_not_opened():
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 65_536
    with RecordServer(Answer([bomb], headers={"Content-Encoding": "gzip"})) as server:
        assert await code_of(server) == "malformed"
    assert server.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "lie",
    [
        {"customer_id": "bob", "records": []},
        {"customer_id": None, "records": []},
        {"records": [record(), record("A-2", customer_id="bob")]},
    ],
)
async def test_another_customers_records_are_refused(lie):
    with RecordServer(Answer.of(lie)) as server:
        assert await code_of(server) == "wrong_customer"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"records": {}}',
        b'{"records": [1]}',
        b'{"records": [{}]}',
        b"[" * 60_000,
        b'{"records": [' + b"1" * 50_000 + b"]}",
        *(
            json.dumps({"records": [record(**wrong)]}).encode()
            for wrong in (
                {"type": ""},
                {"type": 7},
                {"type": "x" * 41},
                {"external_id": 4711},
                {"external_id": "x" * 201},
                {"data": []},
                {"data": {"a": float("nan")}},
                {"data": {"a": float("inf")}},
                {"data": {"a": ["\x00"]}},
                {"data": {"\x00": 1}},
                {"data": {"a": {"b": "\ud800"}}},
                {"data": {"a": [{"\udfff": 1}]}},
                {"type": "\ud800"},
                {"external_id": "A\x00"},
                {"as_of": "2026-01-01T00:00:00"},
                {"as_of": 1700000000},
                {"as_of": "0001-01-01T00:00:00+14:00"},
                {"as_of": (NOW + timedelta(hours=1)).isoformat()},
            )
        ),
        json.dumps({"records": [record(data={"a": "HUGE"})]}).replace('"HUGE"', "1e999").encode(),
        json.dumps({"records": [record("A-1"), record("A-1")]}).encode(),
        json.dumps({"records": [record(f"A-{i}") for i in range(101)]}).encode(),
    ],
)
async def test_what_is_not_a_list_of_records_is_refused(body):
    with RecordServer(Answer([body])) as server:
        assert await code_of(server) == "malformed"


async def test_data_that_is_nested_too_deep_to_be_copied_is_refused():
    deep = record(data={"a": "DEEP"})
    body = json.dumps({"records": [deep]}).replace('"DEEP"', "[" * 600 + "]" * 600).encode()
    with RecordServer(Answer([body])) as server:
        assert await code_of(server) == "malformed"


async def test_a_record_may_be_as_long_as_its_columns_and_no_longer():
    longest = {name: CustomerRecord._meta.get_field(name).max_length for name in ("type", "external_id")}
    fitting = {name: "x" * length for name, length in longest.items()}
    with RecordServer([record(**fitting)]) as server:
        (fresh,) = await fetch(server.source(), "ann", "?")
    assert (fresh.type, fresh.external_id) == (fitting["type"], fitting["external_id"])
    for name in longest:
        with RecordServer([record(**{**fitting, name: fitting[name] + "x"})]) as server:
            assert await code_of(server) == "malformed"


async def test_a_clock_a_little_ahead_is_forgiven():
    with RecordServer([record(as_of=(NOW + timedelta(minutes=3)).isoformat())]) as server:
        assert len(await fetch(server.source(), "ann", "?")) == 1


# --- addresses ----------------------------------------------------------------------------

PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.0.192", "198.18.0.1", "240.0.0.1", "168.63.129.16"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:1::1", "2001:db8::1"),
)


@pytest.mark.parametrize("address", PRIVATE)
async def test_no_address_inside_is_ever_asked(address, monkeypatch):
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: [ip_address("1.1.1.1"), ip_address(address)])
    monkeypatch.setattr(pinned, "_post", None)  # would be a TypeError
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource("https://tenant.example/", SECRET), "ann", "?")
    assert caught.value.code == "refused_address"


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1"])
async def test_an_operator_who_allows_private_addresses_does_not_allow_metadata(address, monkeypatch):
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: [ip_address(address)])
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource("https://tenant.example/", SECRET, allow_private=True), "ann", "?")
    assert caught.value.code == "refused_address"


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_loopback_is_recognised_however_it_is_spelt(host):
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource(f"https://{host}/", SECRET), "ann", "?")
    assert caught.value.code == "refused_address"


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "ftp://example.com/", "https://u:p@example.com/", "https:///x", "file:///x", "\x00"],
)
async def test_only_plain_https_addresses_are_asked(url):
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource(url, SECRET), "ann", "?")
    assert caught.value.code == "refused_address"


async def test_a_customers_question_never_crosses_the_internet_in_the_clear(monkeypatch):
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: [ip_address("1.1.1.1")])
    with pytest.raises(RecordSourceError) as caught:
        await fetch(RecordSource("http://tenant.example/", SECRET, allow_private=True), "ann", "?")
    assert caught.value.code == "refused_address"


async def test_a_name_that_changes_its_address_is_asked_where_it_was_checked(tmp_path, monkeypatch):
    """DNS rebinding: the name is looked up once, and the connection goes to what was checked."""
    certificate, tls = make_certificate(tmp_path, "tenant.example")
    lookups = []

    def resolve(host, port):
        lookups.append(host)
        return [ip_address("127.0.0.1" if len(lookups) == 1 else "127.0.0.99")]

    monkeypatch.setattr(pinned, "_resolve", resolve)
    with RecordServer([record()], certificate) as server:
        assert len(await fetch(server.source("tenant.example"), "ann", "?", tls=tls)) == 1
    assert lookups == ["tenant.example"]
    assert server.asked[0].headers["host"] == f"tenant.example:{server.port}"


async def test_a_host_whose_first_address_is_dead_is_asked_at_the_next(monkeypatch):
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: [ip_address("::1"), ip_address("127.0.0.1")])
    with RecordServer([record()]) as server:
        assert len(await fetch(server.source("tenant.example"), "ann", "?")) == 1


async def test_a_certificate_for_another_name_is_refused(tmp_path, monkeypatch):
    certificate, tls = make_certificate(tmp_path, "other.example")
    monkeypatch.setattr(pinned, "_resolve", lambda host, port: [ip_address("127.0.0.1")])
    with RecordServer([record()], certificate) as server:
        with pytest.raises(RecordSourceError) as caught:
            await fetch(server.source("tenant.example"), "ann", "?", tls=tls)
        assert caught.value.code == "tls"
        assert not server.asked


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    certificate, _ = make_certificate(tmp_path, "127.0.0.1")
    with RecordServer([record()], certificate) as server:
        assert await code_of(server) == "tls"


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with RecordServer([record()]) as server:
        assert len(await fetch(server.source(), "ann", "?")) == 1


# --- merging ------------------------------------------------------------------------------

records = st.lists(
    st.builds(
        Record,
        type=st.sampled_from(["order", "plan"]),
        external_id=st.sampled_from("abc"),
        as_of=st.integers(0, 5).map(lambda day: NOW - timedelta(days=day)),
        data=st.fixed_dictionaries({"n": st.integers(0, 99)}),
    ),
    unique_by=lambda record: (record.type, record.external_id),
)


@settings(deadline=None)  # the machine may be busy
@given(known=records, fetched=records)
def test_an_older_record_never_covers_a_newer_one(known, fetched):
    merged = {(it.type, it.external_id): it for it in merge(known, fetched)}
    assert merged.keys() == {(it.type, it.external_id) for it in (*known, *fetched)}
    for it in (*known, *fetched):
        assert merged[it.type, it.external_id].as_of >= it.as_of
    for it in fetched:  # of equally old ones the fetched
        kept = merged[it.type, it.external_id]
        assert kept == it or kept.as_of > it.as_of


# --- the documentation's source -----------------------------------------------------------


async def test_the_documented_source_answers_us_and_nobody_else(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "context.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "source.py").write_text(example)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = b"the secret that the chatbot's page shows once"
    url = f"http://127.0.0.1:{port}/records"
    server = await asyncio.create_subprocess_exec(
        sys.executable, tmp_path / "source.py", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            await asyncio.sleep(0.05)
        (fresh,) = await fetch(RecordSource(url, secret, True, deadline_seconds=10), "c-17", "Where is my order?")
        assert fresh.data["status"] == "shipped"
        with pytest.raises(RecordSourceError, match="401"):
            await fetch(RecordSource(url, b"another secret", True, deadline_seconds=10), "c-17", "?")
    finally:
        server.kill()
        await server.wait()
