"""Exported numbers as Prometheus reads them, in OpenMetrics or in its own text; the names are docs/export.md's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ctobserve.documents.metrics import BOUNDS, ChainMetrics, Metrics, NetnsMetrics

OF_NETNS = ("netns",)
BY_REASON = ("netns", "reason")


class Pages:
    """One instant in whichever form a client wants; each is made once."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(metrics))
        self._made: dict[str, bytes] = {}

    def of(self, accept: str) -> tuple[str, bytes]:
        """Content type and content; `accept` is what the client says that it takes."""
        encode, content_type = choose_encoder(accept)
        if content_type not in self._made:
            self._made[content_type] = encode(self._registry)
        return content_type, self._made[content_type]


class _Families(Collector):
    """The custom collector: one instant."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Every family, those without a sample left out."""
        yield from (family for family in _families(self._metrics) if family.samples)


def _families(metrics: Metrics) -> Iterator[Metric]:
    of_build = {
        "version": metrics.version,
        "kernel": metrics.kernel,
        "machine": metrics.machine,
        "attach": metrics.attach or "none",
    }
    build = GaugeMetricFamily(
        "ctobserve_build_info", "What counts here, on which kernel, by which programs.", labels=list(of_build)
    )
    build.add_metric(list(of_build.values()), 1)
    yield build
    yield from _of_netns(metrics.spaces)
    yield _gauge("ctobserve_buckets", "Buckets of the hash, which all network namespaces share.", metrics.buckets)
    if metrics.chains:
        yield from _of_chains(metrics.chains)
    yield _counter("ctobserve_records_lost", "Records that the flight recorder here has lost.", metrics.records_lost)
    yield _counter("ctobserve_programs_missed", "Calls that no program counted: what they tell is missing here.", metrics.missed)
    unaccounted = CounterMetricFamily(
        "ctobserve_unaccounted", "How much more the kernel's counter moved than what was counted explains.", labels=("counter",)
    )
    for counter, number in metrics.unaccounted.items():
        unaccounted.add_metric((counter,), number)
    yield unaccounted
    yield _gauge(
        "ctobserve_last_verify_timestamp_seconds",
        "When losses were last found equal to the kernel's own counters.",
        metrics.verified,
    )


def _of_netns(spaces: tuple[NetnsMetrics, ...]) -> Iterator[Metric]:
    owners = GaugeMetricFamily("ctobserve_netns_info", "Whose the network namespace is.", labels=("netns", "owner"))
    entries = GaugeMetricFamily("ctobserve_entries", "Entries, as nf_conntrack_count has them.", labels=OF_NETNS)
    limit = GaugeMetricFamily("ctobserve_entries_limit", "How many there may be: nf_conntrack_max.", labels=OF_NETNS)
    inserts = CounterMetricFamily("ctobserve_inserts", "Entries that entered the table.", labels=OF_NETNS)
    destroys = CounterMetricFamily("ctobserve_destroys", "Entries that left the table, by reason.", labels=BY_REASON)
    drops = CounterMetricFamily("ctobserve_drops", "Packets that conntrack lost, by reason.", labels=BY_REASON)
    early = CounterMetricFamily("ctobserve_early_drops", "Entries evicted to make room for a new one.", labels=OF_NETNS)
    clashes = CounterMetricFamily(
        "ctobserve_clashes_resolved", "Packets that went on with the entry that won a clash.", labels=OF_NETNS
    )
    for space in spaces:
        netns = (space.netns,)
        if space.owner is not None:
            owners.add_metric((space.netns, space.owner), 1)
        if space.entries is not None:
            entries.add_metric(netns, space.entries)
        if space.limit is not None:
            limit.add_metric(netns, space.limit)
        inserts.add_metric(netns, space.inserts)
        early.add_metric(netns, space.early_drops)
        clashes.add_metric(netns, space.clashes_resolved)
        for family, numbers in ((destroys, space.destroys), (drops, space.drops)):
            for reason, number in sorted(numbers.items()):
                family.add_metric((space.netns, reason), number)
    yield from (owners, entries, limit, inserts, destroys, drops, early, clashes)


def _of_chains(chains: ChainMetrics) -> Iterator[Metric]:
    lengths = GaugeHistogramMetricFamily("ctobserve_chain_length", "Nodes in the chain of each bucket, in the last pass.")
    buckets = [(f"{bound}.0", float(number)) for bound, number in zip(BOUNDS, chains.at_most, strict=True)]
    lengths.add_metric([], [*buckets, ("+Inf", float(chains.buckets))], chains.nodes)
    yield lengths
    yield _gauge("ctobserve_longest_chain", "Nodes in the longest chain.", chains.longest)
    yield _gauge("ctobserve_lookup_cost", "Nodes that the look-up of a live entry visits, in the mean.", chains.cost)
    yield _gauge("ctobserve_walk_seconds", "How long the last pass over all chains took.", chains.took)
    yield _gauge("ctobserve_walk_timestamp_seconds", "When that was.", chains.at)


def _gauge(name: str, says: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(name, says)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, says: str, value: float | None) -> Metric:
    family = CounterMetricFamily(name, says)
    if value is not None:
        family.add_metric([], value)
    return family
