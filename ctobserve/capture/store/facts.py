"""What is no row of numbers, as JSON and back: NamedTuples of the seam by their types, so that a file can make nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from functools import cache
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from types import MappingProxyType, NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from ctobserve.capture.capture import Allocation, Fidelity, Host, NamespaceState, PacketCount
from ctobserve.capture.read_via import ReadVia
from ctobserve.clock import Clock
from ctobserve.host.account import Account
from ctobserve.host.owner import Owner
from ctobserve.model import shown_before

MOST_CHARACTERS = 4096  # of one text
MOST_INUM = 1 << 32
MOST_NUMBER = 1 << 128  # an IPv6 address is the largest number that anything holds
# Names as the kernel or nft had them: who shows them passes them through model.printable. All others have passed it.
RAW = {
    *("Address.device", "Match.names", "NamespaceState.names", "Refusing.hook", "Ruleset.families"),
    *(f"NatChain.{name}" for name in ("family", "table", "name", "hook")),
    *(f"NatRule.{name}" for name in ("table", "chain", "to")),
}
T = TypeVar("T")


class NoFact(ValueError):
    """JSON of another form than the kind of fact has."""


class Keyframe(NamedTuple):
    """The table read once: how many rows of each kind follow in chunks. `began_ns` is when the reading began.

    What events said until then comes before it in the file. `repairs`: it follows a loss or a resize of the hash, and who
    replays must take it; `unread` as in Snapshot.
    """

    buckets: int
    began_ns: int
    unread: int = 0
    entries: int = 0
    extensions: int = 0
    touched: int = 0
    repairs: bool = False


class CountersRead(NamedTuple):
    """A reading of the kernel's counters: rows that follow in chunks, and namespaces that could not be entered."""

    rows: int
    unread: frozenset[int] = frozenset()


class HelpedRead(NamedTuple):
    """Entries with a helper: rows that follow, and the namespaces that were asked; None: netlink was not to be had."""

    rows: int
    of: tuple[int, ...] | None


class ExpectedRead(NamedTuple):
    """Expectations: rows that follow, and what else Expected says."""

    rows: int
    via: ReadVia
    helpers: frozenset[str]


class End(NamedTuple):
    """The recording is whole until here. `unloaded`: it ended because nf_conntrack was."""

    unloaded: bool = False


class Trigger(NamedTuple):
    """Something for which a flight recorder keeps what it has: `why` in a word, `says` in more."""

    why: str
    says: str


# What a file may say, by kind of fact.
KINDS: Mapping[str, Any] = MappingProxyType(
    {
        "host": Host,
        "allocation": Allocation,
        "names": Mapping[int, str],
        "owners": Mapping[int, Owner],
        "present": tuple[int, ...],
        "namespace": NamespaceState,
        "accounts": Mapping[int, Account],
        "clock": Clock,
        "fidelity": Fidelity,
        "packets": tuple[PacketCount, ...],
        "keyframe": Keyframe,
        "counters": CountersRead,
        "helped": HelpedRead,
        "expected": ExpectedRead,
        "end": End,
        "trigger": Trigger,
    }
)


def encoded(value: object) -> str:
    """As JSON, in which a text keeps even what is no UTF-8."""
    return json.dumps(_plain(value), separators=(",", ":"))


def decoded(kind: str, text: str) -> Any:
    """A fact of this kind again; raises NoFact."""
    try:
        return _made(KINDS[kind], json.loads(text, parse_constant=_refuse), "")
    except (ValueError, KeyError, RecursionError) as error:
        raise NoFact(str(error)) from None


def of_kind(found: Any, kind: type[T]) -> T:
    """The same, with its type; raises NoFact."""
    if not isinstance(found, kind):
        raise NoFact(f"no {kind.__name__}")
    return found


def _refuse(word: str) -> None:
    raise NoFact(f"{word} is no number")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, tuple):
        named = getattr(value, "_asdict", None)
        return _plain(named()) if named else list(map(_plain, value))
    return str(value) if isinstance(value, IPv4Interface | IPv6Interface) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _made(hint: Any, found: Any, name: str) -> Any:
    """`name`: of the member that it is."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _one_of(parts, found, name)
    if origin is tuple:
        return _tuple(parts, _is(found, list), name)
    if origin is frozenset:
        return frozenset(_made(parts[0], one, name) for one in _is(found, list))
    if origin is not None and issubclass(origin, Mapping):
        return {_key(parts[0], key): _made(parts[1], one, name) for key, one in _is(found, dict).items()}
    if hasattr(hint, "_fields"):
        return _named(hint, _is(found, dict))
    return _scalar(hint, found, name)


def _scalar(hint: Any, found: Any, name: str) -> Any:
    if hint is NoneType and found is None:
        return None
    if hint is bool:
        return _is(found, bool)
    if hint is int:
        number = _is(found, int)
        if not -MOST_NUMBER < number < MOST_NUMBER:
            raise NoFact("a number too large")
        return number
    if hint is str:
        return _text(found, name)
    if hint in (IPv4Interface, IPv6Interface):
        interface = ip_interface(_is(found, str))
        return _is(interface, hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(found)
    raise NoFact(f"{name or 'it'} has another form")


def _is(found: Any, kind: type[T]) -> T:
    if type(found) is not kind:
        raise NoFact(f"{type(found).__name__} where {kind.__name__} belongs")
    return found


def _one_of(parts: tuple[Any, ...], found: Any, name: str) -> Any:
    if found is None and NoneType in parts:
        return None
    for part in parts:
        if part is not NoneType:
            try:
                return _made(part, found, name)
            except ValueError:
                continue
    raise NoFact(f"{name or 'it'} has another form")


def _tuple(parts: tuple[Any, ...], found: list[Any], name: str) -> tuple[Any, ...]:
    if parts[1:] == (...,):
        return tuple(_made(parts[0], one, name) for one in found)
    if len(parts) != len(found):
        raise NoFact("another number of parts")
    return tuple(_made(part, one, name) for part, one in zip(parts, found, strict=True))


def _named(hint: Any, found: dict[str, Any]) -> Any:
    """Members that this version does not know are left out; those that the file lacks have their default."""
    hints = _hints(hint)
    kind = hint.__name__
    given = {name: _made(hints[name], found[name], f"{kind}.{name}") for name in hint._fields if name in found}
    if any(name not in given and name not in hint._field_defaults for name in hint._fields):
        raise NoFact(f"{kind} lacks a member")
    return hint(**given)


def _key(hint: Any, key: str) -> Any:
    if hint is str:
        return _text(key, "")
    number = int(key)
    if not 0 <= number < MOST_INUM:
        raise NoFact("a key too large")
    return number


def _text(found: Any, name: str) -> str:
    text = _is(found, str)
    if len(text) > MOST_CHARACTERS:
        raise NoFact("a text too long")
    return text if name in RAW else shown_before(text, MOST_CHARACTERS)
