"""Lines for people: under 100 columns, same facts as JSON, `-` for unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctobserve.render.rows import Row


def endpoint(side: Mapping[str, Any] | None) -> str:
    """One direction's tuple in the words of `conntrack -L`."""
    if side is None:
        return "-"
    words = " ".join(f"{name}={value}" for name, value in side.items() if name not in ("src", "dst") and value is not None)
    return f"src={side['src']} dst={side['dst']}" + (f" {words}" if words else "")


def short(side: Mapping[str, Any] | None) -> str:
    """One direction's tuple as src:port > dst:port."""
    if side is None:
        return "-"
    if "type" in side:
        return f"{side['src']} > {side['dst']} type {side['type']} id {side['id']}"
    return f"{_host(side['src'], side['sport'])} > {_host(side['dst'], side['dport'])}"


def _host(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _slash(pair: Mapping[str, int | None]) -> str:
    return "/".join("-" if value is None else str(value) for value in pair.values())


def flags(row: Row) -> str:
    """TCP state and the status an operator asks for first."""
    status = row["status"]
    words = [row["tcp_state"]] if row["tcp_state"] else []
    if "seen_reply" not in status:
        words.append("UNREPLIED")
    if "assured" in status:
        words.append("ASSURED")
    words += [word for word in ("src_nat", "dst_nat", "nat_clash", "offload") if word in status]
    return ",".join(words) or "-"


def entry_lines(rows: Sequence[Row], netns: Mapping[int, str]) -> Iterable[str]:
    """A heading, then one line per entry; the reply tuple only where it is not the mirror of the original."""
    width = max([5, *(len(netns_label(row, netns)) for row in rows)])
    yield f"{'NETNS':<{width}} {'PROTO':<6} {'LEFT':>6} {'BUCKETS':>13} {'CHAINS':>7}  TUPLE, STATE"
    for row in rows:
        yield (
            f"{netns_label(row, netns):<{width}} {row['proto']:<6} {_number(row['timeout_s']):>6} {_slash(row['bucket']):>13}"
            f" {_slash(row['chain']):>7}  {short(row['original'])}{nat(row)} {flags(row)}"
        )


def nat(row: Row) -> str:
    """The reply tuple, where NAT made it another than the reverse of the original."""
    original, reply = row["original"], row["reply"]
    if reply is None or not {"src_nat", "dst_nat"} & set(row["status"]):
        return ""
    return f" reply {short(reply)}" if (original["src"], original["dst"]) != (reply["dst"], reply["src"]) or _ports(row) else ""


def _ports(row: Row) -> bool:
    original, reply = row["original"], row["reply"]
    return (original.get("sport"), original.get("dport")) != (reply.get("dport"), reply.get("sport"))


def netns_label(row: Row, netns: Mapping[int, str]) -> str:
    """What text calls the namespace of an entry."""
    return "-" if row["netns"] is None else netns.get(row["netns"], str(row["netns"]))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def event_line(row: Row, netns: Mapping[int, str]) -> str:
    """One event: time of day, what, where, which tuple, and what else is known of it."""
    words = [
        f"{row['ts'][11:23]} {row['event']:<7} {netns_label(row, netns):<8} {row['proto']:<5} {short(row['original'])}{nat(row)}"
    ]
    words += [f"{name}={row[name]}" for name in ("reason", "verdict") if row.get(name)]
    if row.get("changes"):
        words.append("changes=" + ",".join(row["changes"]))
    if row["reply"] is not None and row["event"] != "drop":
        words.append(flags(row))
    words += [f"{name}={_slash(row[name])}" for name in ("bucket", "chain") if set(row[name].values()) != {None}]
    if row.get("age_s") is not None:
        words.append(f"age={row['age_s']:.1f}s")
    words += [f"{name}={_slash(row[name])}" for name in ("packets", "bytes") if row.get(name)]
    if row.get("process"):
        words.append(f"by {row['process']['comm']}[{row['process']['pid']}]")
    if row.get("interface"):
        words.append(f"on {row['interface']}")
    if row.get("made_room_for"):
        words.append(f"for {short(row['made_room_for'])}")
    if row.get("master"):
        words.append(f"master {short(row['master'])}")
    words += [f"({row[name]})" for name in ("text", "detail") if row.get(name)]
    if row.get("looked_at"):
        words.append(
            "(looked at: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in row["looked_at"].items()) + ")"
        )
    return " ".join(words)


def packet_line(row: Row, netns: Mapping[int, str]) -> str:
    """Packets of one conntrack state at one hook."""
    return f"{row['ts'][11:23]} packets {netns_label(row, netns):<8} {row['hook']:<11} {row['state']:<11} {row['packets']}"


def balance_lines(report: Mapping[str, Any], netns: Mapping[int, str]) -> Iterable[str]:
    """Our sums by reason beside the kernel's counters, in total and for each namespace that lost something."""
    hidden = report["meta"]["drops_not_shown"]
    if hidden:
        yield f"... and {hidden} more (--limit)"
    moved = [inum for inum, part in report["by_netns"].items() if part["by_reason"] or any(part["kernel_counters"].values())]
    for inum in moved if len(moved) > 1 else []:
        part = report["by_netns"][inum]
        kernel = _sums({name: count for name, count in part["kernel_counters"].items() if count})
        yield f"{netns.get(int(inum), inum)}: {_sums(part['by_reason']) or 'nothing'}; kernel: {kernel or 'none moved'}"
    kept = f"; {report['clash_resolved']} clashes resolved, no loss" if report["clash_resolved"] else ""
    kernel = ", ".join(f"{name} +{count}" for name, count in report["kernel_counters"].items() if count)
    rest = ", ".join(f"{name} {count:+}" for name, count in report["unaccounted"].items())
    yield f"By reason:       {_sums(report['by_reason']) or 'nothing was lost'}{kept}"
    if not report["kernel_counters"]:
        yield "Kernel counters: not readable here, so nothing can be compared"
        return
    yield f"Kernel counters: {kernel or 'none moved'}"
    yield f"Unaccounted:     {rest or 'nothing: our reasons explain every count'}"
    if {"invalid", "error"} & set(report["unaccounted"]):
        yield "                 (--invalid shows those packets, at the cost of a probe per packet)"


def _sums(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def verify_lines(report: Mapping[str, Any], netns: Mapping[int, str]) -> Iterable[str]:
    """Equal or not, and every lasting difference by name."""
    beside = "" if report["netlink"] is None else ", and netlink dumps"
    verdict = "EQUAL" if report["equal"] else "NOT EQUAL"
    yield f"{verdict}: {report['ours']} entries here, {report['kernel']} in a walk of the kernel's table{beside}"
    for side, words in (("only_ours", "only here"), ("only_kernel", "only in the kernel")):
        for row in report[side]:
            yield f"  {words}: {netns_label(row, netns)} {row['proto']} {short(row['original'])}{nat(row)} {flags(row)}"
    for item in report["field_diffs"]:
        yield f"  {item['ct']} {item['field']}: here {item['ours']}, kernel {item['kernel']}"
    if report["netlink"] and any(report["netlink"].values()):
        counts = report["netlink"]
        yield f"  netlink: {counts['only_ours']} entries only here, {counts['only_kernel']} only in the dumps"


def check_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """Findings, then the hooks that will be used."""
    marks = {True: "ok", False: "MISSING", None: "partly"}
    yield f"kernel {report['meta']['kernel']} {report['meta']['machine']}"
    for item in report["findings"]:
        yield f"  {marks[item['ok']]:<8} {item['name']:<10} {item['found']}" + (f"; {item['do']}" if item["do"] else "")
    for item in report["hooks"]:
        where = item["function"] or "not in this kernel: blind to it"
        yield f"  {item['form'] if item['function'] else '-':<18} {where:<32} per {item['each']:<13} {item['tells']}"


def summary_line(meta: Mapping[str, Any]) -> str:
    """What every report ends with: how much was seen, lost, and how old the table is."""
    age = meta["table_age_s"]
    lost = f"{meta['events_lost']} lost" if meta["events_lost"] else "none lost"
    return (
        f"{meta['events_seen']} events seen, {lost}, in {meta['duration_s']:.1f} s ({meta['attach']})"
        f"{'' if age is None else f'; table read {age:.1f} s ago'}"
    )
