"""The exporter over many scrapes of a host on which namespaces come and go: its memory and its series stay bounded.

CTOBSERVE_SCRAPES says how many. 10,000, as test-matrix has it, are a day at one every 8.6 seconds.
"""

from __future__ import annotations

import gc
import http.client
import os
import random
import tracemalloc

from prometheus_client.parser import text_string_to_metric_families as of_text

from ctobserve.capture.counts import Count
from ctobserve.documents.metering import Metering
from ctobserve.event import Kind
from ctobserve.render.exposition import Pages
from tests.unit.test_metrics import ScriptedCounting, made, state, states
from tests.unit.test_serving import Served, served

SCRAPES = int(os.environ.get("CTOBSERVE_SCRAPES", "120"))
LIMIT, SPACES, NEW_EACH = 50, 80, 3  # namespaces with series, that live at once, and that come anew with each scrape
ONE_CLIENT_BYTES = 1 << 16  # one may still be there that has said something rude
REASONS = ((Kind.INSERT, ""), (Kind.DESTROY, "timeout"), (Kind.DROP, "table_full"), (Kind.RESOLVED, ""))
RUDE = (b"GET /metrics HTTP/1.1\r\n", b"\x00\xff" * 100, b"GET /" + b"a" * 5000, b"GET /metrics HTTP/9.9\r\n\r\n")


class Churning:
    """A host as a scrape finds it: some namespaces ended since the last, others began, and entries came and left in all."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._next = 5000
        self.counting: ScriptedCounting = made(states={}, counted_=[])

    def step(self) -> None:
        self.counting.wait(8.64)
        self.counting.forgotten.clear()  # a memory that the kernel has not
        living = [*self.counting.states][NEW_EACH:] if len(self.counting.states) >= SPACES else [*self.counting.states]
        new = range(self._next, self._next + NEW_EACH)
        self._next += NEW_EACH
        self.counting.states = states(*(state(inum, f"pod-{inum}", 7) for inum in (*living, *new)))
        counted = {(one.netns, one.kind, one.reason): one.number for one in self.counting.counted_}
        for inum in self.counting.states:
            for kind, reason in REASONS:
                counted[inum, kind, reason] = counted.get((inum, kind, reason), 0) + self._random.randrange(100)
        self.counting.counted_ = [Count(*place, number) for place, number in counted.items()]


def scraped(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    page = answer.read()
    assert answer.status == 200
    return page


def be_rude(one: Served, number: int) -> None:
    """Some leave at once, in the middle of what they say."""
    with one.connect() as client:
        client.sendall(RUDE[number % len(RUDE)])


def test_a_day_of_scrapes_takes_no_more_memory_than_its_first_hours():
    host = Churning()
    metering = Metering(host.counting, LIMIT, print)
    samples, largest = [], [0, 0]  # page of each half

    with served(lambda: Pages(metering.read(host.counting))) as one:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        tracemalloc.start()
        for number in range(SCRAPES):
            host.step()
            metering.look(host.counting)
            half = 2 * number // SCRAPES
            largest[half] = max(largest[half], len(scraped(connection)))
            if number % 20 == 0:
                be_rude(one, number // 20)
                gc.collect()
                samples.append(tracemalloc.get_traced_memory()[0])
        page = scraped(connection)
        tracemalloc.stop()
        connection.close()
    settled = samples[len(samples) // 4 :]
    early, late = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    assert max(late) <= 1.1 * max(early) + ONE_CLIENT_BYTES, samples
    assert largest[1] <= 1.1 * largest[0]
    labels = {
        sample.labels["netns"] for family in of_text(page.decode()) for sample in family.samples if "netns" in sample.labels
    }
    assert len(labels) == LIMIT + 1 and "other" in labels
    assert len(host.counting.counted_) <= (SPACES + 4 * NEW_EACH) * len(REASONS), "room is made every ten seconds"
