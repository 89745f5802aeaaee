"""Who has what in a fleet, drawn from a seed: most hosts are healthy, and each cause is on hosts of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ctobserve.clock import NS_PER_S, iso
from tests.fleet.kinds import ABUSER, HEALTHY, RESOLVER, SERVICE

HOSTS_WITH = {"abused": 7, "raced": 13, "crowded": 3, "growing": 1, "churning": 5}  # of 200 hosts and more
LEAST_HOSTS = 10
KERNELS, IMAGES = ("6.1.0-56-amd64", "6.1.0-58-amd64"), ("debian-12.12", "debian-12.13")
ABUSED_AT, REBOOTED_AT, RACED_AT = 0.3, 0.05, 0.6  # of the time between two recordings
TOGETHER_S = 90  # hosts that one cause hits are hit within this time
BEGIN_NS = 1_795_651_200 * NS_PER_S  # 2026-11-26
HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS
LASTS_NS = 10 * NS_PER_S  # a recording takes less


@dataclass
class Planned:
    """A recording of a host: of which kind, begun when. `anew`: the host was booted before it, with another kernel and image."""

    kind: str
    at_ns: int
    anew: bool = False


@dataclass
class Plan:
    """`booted_ns` is when hosts with another image were booted with it."""

    begin_ns: int
    end_ns: int
    booted_ns: int
    hosts: dict[str, list[Planned]] = field(default_factory=dict)
    of_cause: dict[str, list[str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)  # what those of the kinds are in this fleet


def planned(hosts: int, hours: int, every: int, seed: int) -> Plan:
    """So many hosts, each recorded every so many hours, twice at least."""
    random = Random(seed)
    slots = max(hours // every, 2)
    width_ns = hours * HOUR_NS // slots
    middle = slots // 2
    names = [f"node-{number:04}" for number in range(1, hosts + 1)]
    plan = Plan(BEGIN_NS, BEGIN_NS + hours * HOUR_NS, BEGIN_NS + round((middle + REBOOTED_AT) * width_ns))
    left = random.sample(names, len(names))
    for cause, count in HOSTS_WITH.items():
        some = max(1, round(count * min(hosts, 200) / 200))
        plan.of_cause[cause], left = sorted(left[:some]), left[some:]
    plan.addresses = {
        dotted(ABUSER): dotted((random.choice((45, 89, 141, 185, 193)), *some_bytes(random, 2), random.randrange(1, 255))),
        dotted(RESOLVER): dotted((10, 96, 0, random.randrange(2, 255))),
        dotted(SERVICE): dotted((10, random.randrange(16, 96), *some_bytes(random, 1), random.randrange(1, 255))),
    }
    cause_of = {name: cause for cause, those in plan.of_cause.items() for name in those}
    for name in names:
        cause = cause_of.get(name)
        # What is hit is of the middle size, and so it is before and afterwards.
        size = random.choice(list(HEALTHY)) if cause is None else "middle"
        plan.hosts[name] = []
        for slot in range(slots):
            begin_ns = BEGIN_NS + slot * width_ns
            at_ns = begin_ns + round(random.uniform(0.1, 0.9) * width_ns)
            hit_ns = begin_ns + round(random.uniform(0, TOGETHER_S) * NS_PER_S)
            one = Planned(size, at_ns)
            if cause == "abused" and slot == middle:
                one = Planned(cause, hit_ns + round(ABUSED_AT * width_ns))
            elif cause == "raced" and slot >= middle:
                one = Planned(cause, hit_ns + round(RACED_AT * width_ns), anew=slot == middle)
            elif cause == "growing":
                one = Planned(f"growing-{slot}", at_ns)
            elif cause in ("crowded", "churning"):
                one = Planned(cause, at_ns)
            plan.hosts[name].append(within_a_day(one))
    return plan


def some_bytes(random: Random, count: int) -> list[int]:
    return [random.randrange(256) for _ in range(count)]


def growth(plan: Plan) -> list[str]:
    """The kinds of the growing host, in order."""
    (name, *_) = plan.of_cause["growing"]
    return [one.kind for one in plan.hosts[name]]


def within_a_day(one: Planned) -> Planned:
    """It begins and ends on one day."""
    if one.at_ns // DAY_NS != (one.at_ns + LASTS_NS) // DAY_NS:
        one.at_ns -= LASTS_NS
    return one


def dotted(address: Iterable[int]) -> str:
    return ".".join(map(str, address))


def said(plan: Plan, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is to be found: `facts` are what the kinds that were planted hold."""
    source, resolver, service = (plan.addresses[dotted(one)] for one in (ABUSER, RESOLVER, SERVICE))
    raced = plan.of_cause["raced"]
    return {
        "abusive_source": {
            "hosts": plan.of_cause["abused"],
            "source": source,
            "network": f"{source.rpartition('.')[0]}.0/24",
            **times(plan, "abused"),
            **facts["abused"],
        },
        "resolver_race": {"hosts": raced, "resolver": resolver, **times(plan, "raced"), **facts["raced"]},
        "image": {"hosts": raced, "at": iso(plan.booted_ns), "kernel": KERNELS, "image": IMAGES},
        "small_hash": {"hosts": plan.of_cause["crowded"], **facts["crowded"]},
        "growing": {"hosts": plan.of_cause["growing"], **facts["growing"]},
        "churning_service": {"hosts": plan.of_cause["churning"], "service": service, **facts["churning"]},
    }


def times(plan: Plan, kind: str) -> dict[str, Any]:
    """When recordings of a kind began: clusters in time."""
    begun: dict[int, list[int]] = {}
    for those in plan.hosts.values():
        for slot, one in enumerate(those):
            if one.kind == kind:
                begun.setdefault(slot, []).append(one.at_ns)
    return {"begun": [{"from": iso(min(some)), "to": iso(max(some)), "recordings": len(some)} for some in begun.values()]}
