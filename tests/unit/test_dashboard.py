"""The dashboard: its queries on a real Prometheus that scrapes our metrics, and what a current Grafana wants of its JSON."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path

import pytest

from ctobserve.analysis.agreement import WATCHED
from ctobserve.documents.metering import LOSSES
from ctobserve.documents.metrics import BOUNDS, ChainMetrics, Metrics, NetnsMetrics
from ctobserve.render.exposition import Pages
from tests.prometheus import Prometheus

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = json.loads((DEPLOY / "grafana/ctobserve.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["refId"], target["expr"]) for panel in PANELS for target in panel["targets"]]
# As the variables of the dashboard are filled in when everything is chosen.
VARIABLES = {"$instance": ".*", "$netns": ".*", "$__rate_interval": "30s"}
ENOUGH_S = 90


class Told:
    """What an exporter says, scrape by scrape: counters go on until it is told that nothing is lost any more."""

    def __init__(self) -> None:
        self._scrapes = 0
        self.losing = True
        self._lost = 0

    def page(self, accept: str) -> tuple[str, bytes]:
        """Of a host with two namespaces, one nearly full and losing packets."""
        self._scrapes += 1
        self._lost += 7 * self.losing
        n, at = self._scrapes, 1_800_000_000.0
        web = NetnsMetrics("web", 95, 100, 10 * n, {}, dict.fromkeys(LOSSES, 0) | {"table_full": self._lost}, self._lost, 3)
        init = NetnsMetrics("init", 1000 + n, 262144, 40 * n, {"timeout": 30 * n}, dict.fromkeys(LOSSES, 0), 0, 0)
        at_most = (60000, *(65000,) * (len(BOUNDS) - 1))
        chains = ChainMetrics(at=at, took=0.05, buckets=65536, nodes=6072, at_most=at_most, longest=13, cost=1.25)
        sight = {"missed": 0, "records_lost": 0, "unaccounted": dict.fromkeys(WATCHED, 0), "verified": at}
        metrics = Metrics("0", "6.1.0", "x86_64", "fentry", 65536, (init, web), chains, **sight)
        return Pages(metrics).of(accept)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def prometheus(told, tmp_path_factory) -> Iterator[Prometheus]:
    """One that has scraped them often enough for rates; windows of five minutes are eight seconds in its rules."""

    class Exporter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, body = told.page(self.headers["Accept"])
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    directory = tmp_path_factory.mktemp("prometheus")
    rules = []
    for name in ("records.yml", "alerts.yml"):
        rules.append(directory / name)
        rules[-1].write_text((DEPLOY / "prometheus" / name).read_text().replace("5m", "8s"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Prometheus(directory, [f"127.0.0.1:{server.server_port}"], rules) as made:
            made.until(lambda: len(made.series("netns_reason:ctobserve_drops:increase8s > 0")) == 1, ENOUGH_S)
            yield made
    finally:
        server.shutdown()
        server.server_close()


def filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression.replace("increase5m", "increase8s").replace("rate5m", "rate8s")


@pytest.mark.parametrize(("title", "ref", "expression"), QUERIES, ids=[f"{title}-{ref}" for title, ref, _ in QUERIES])
def test_each_query_has_an_answer(prometheus, title, ref, expression):
    prometheus.until(lambda: bool(prometheus.series(filled(expression))), ENOUGH_S)


def query(title: str, ref: str = "A") -> str:
    (found,) = [expression for at, name, expression in QUERIES if (at, name) == (title, ref)]
    return filled(found)


def test_what_it_shows_is_what_was_told(prometheus):
    assert prometheus.series(query("Fullest table")) == {("web",): 0.95}
    assert prometheus.series(query("Longest chain")) == {(): 13}
    assert prometheus.series(query("Buckets by length of their chain")) == {
        ("0.0",): 60000,
        **{(f"{bound}.0",): 65000 for bound in BOUNDS[1:]},
        ("+Inf",): 65536,
    }
    assert prometheus.series(query("Each table", "B")) == {("init",): 262144, ("web",): 100}
    assert prometheus.series(query("Not seen: records, programs, losses")) == {(): 0}
    assert prometheus.series(query("Who says it")) == {("fentry", "6.1.0", "x86_64", "0"): 1}


def test_variables_find_hosts_and_namespaces(prometheus):
    asked = [variable["query"]["query"] for variable in BOARD["templating"]["list"] if variable["type"] == "query"]
    for one in asked:
        (series, label) = re.fullmatch(r"label_values\((.*), (\w+)\)", one).groups()
        found = prometheus.ask(f"label/{label}/values", **{"match[]": filled(series)})
        assert found == (["init", "web"] if label == "netns" else found) and found


def test_the_alert_of_a_full_table_fires_and_resolves(prometheus, told):
    prometheus.until(lambda: "CtobserveTableFull" in prometheus.alerts(), ENOUGH_S)
    (alert,) = prometheus.alerts()["CtobserveTableFull"]
    assert alert["labels"]["netns"] == "web" and alert["labels"]["severity"] == "critical"
    assert re.search(r"about \d+ in .* in namespace web\.", alert["annotations"]["summary"])
    told.losing = False
    prometheus.until(lambda: not {"CtobserveTableFull", "CtobserveEarlyDrop"} & set(prometheus.alerts()), ENOUGH_S)


def test_panels_neither_overlap_nor_leave_the_grid():
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


def test_the_first_row_answers_what_an_outage_asks():
    first = [panel["title"] for panel in PANELS if panel["gridPos"]["y"] == 1]
    assert first == ["Fullest table", "Full in", "Packets lost in 5 minutes", "Longest chain", "Evicted early in 5 minutes"]


def test_every_panel_has_a_unit_and_every_number_at_a_glance_its_thresholds():
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] and panel["datasource"]["uid"] == "${datasource}"
        steps = [step["value"] for step in defaults["thresholds"]["steps"]]
        assert steps[0] is None and steps[1:] == sorted(steps[1:])
        assert panel["type"] != "stat" or len(steps) > 1
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


def test_it_names_no_data_source_of_one_site_and_may_be_imported_anywhere():
    uids = set(re.findall(r'"uid": "([^"]+)"', json.dumps(BOARD)))
    assert uids == {"${datasource}", "-- Grafana --", "ctobserve"} and BOARD["id"] is None
    assert BOARD["schemaVersion"] >= 39 and BOARD["timezone"] == "utc"


def test_it_asks_only_for_what_is_exported_or_recorded():
    recorded = set(re.findall(r"record: (\S+)", (DEPLOY / "prometheus/records.yml").read_text()))
    _, page = Told().page("application/openmetrics-text")
    exported = set(re.findall(r"^(ctobserve_\w+)", page.decode(), re.M))
    named = {name for _, _, one in QUERIES for name in re.findall(r"[a-z_:]*ctobserve_[a-z0-9_:]+", one)}
    assert named <= recorded | exported and len(named) > 15
    rules = "".join((DEPLOY / "prometheus" / name).read_text() for name in ("records.yml", "alerts.yml"))
    asked = set(re.findall(r"(?<![\w:])ctobserve_\w+(?![\w:])", rules))
    assert asked <= exported
