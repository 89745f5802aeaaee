"""The line that every command ends with."""

from __future__ import annotations

from dataclasses import replace

from ctobserve.documents.meta import Meta, NetnsOwner
from ctobserve.host.owner import OwnerKind
from ctobserve.render.summary import summary_line

META = Meta(
    command="report",
    version="9.8.7",
    schema=1,
    kernel="6.1.0-test",
    started="2026-11-23T03:00:07.000000001Z",
    ended="2026-11-23T03:00:12.000000002Z",
    duration_s=5.125,
    netns="all",
    netns_names={"4026531840": "init", "77": "blue"},
    attach="fentry",
    not_attached=("ctnetlink_conntrack_event",),
    table_source="netlink",
    events_seen=1234,
    events_lost=7,
    lost_by_kind={"insert": 3, "destroy": 4},
    evictions_unpaired=11,
    table_age_s=1.5,
    table_uncertain_s=0.375,
    buckets_unread=19,
    events_seen_in_netns=None,
    from_recording=None,
    netns_owners={"4026531840": NetnsOwner("host", OwnerKind.HOST, None, None, None), "77": None},
)
CALM = replace(
    META, events_lost=0, lost_by_kind={}, evictions_unpaired=0, table_uncertain_s=0.0, buckets_unread=0, not_attached=()
)


def test_the_closing_line_says_what_makes_a_report_doubtful():
    assert summary_line(META) == (
        "1234 events seen, 7 lost (insert 3, destroy 4), in 5.1 s (fentry); table read by netlink 1.5 s ago; "
        "it was wrong for up to 0.375 s, as records were lost; 19 entries could not be read; "
        "not attached, so not seen: ctnetlink_conntrack_event; 11 evictions of which it is not known for whom"
    )
    assert "19 buckets could not be read" in summary_line(replace(META, table_source="walk"))


def test_the_closing_line_of_one_namespace_counts_its_events_alone():
    assert summary_line(replace(CALM, netns=77, events_seen_in_netns=0)).startswith("0 events seen, none lost, in 5.1 s")


def test_the_closing_line_of_a_calm_observation_is_short():
    calm = summary_line(replace(CALM, table_source="walk"))
    assert calm == "1234 events seen, none lost, in 5.1 s (fentry); table read 1.5 s ago"
    assert summary_line(replace(CALM, table_age_s=None, table_source=None)).endswith("5.1 s (fentry)")
