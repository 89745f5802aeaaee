"""Expectations as text and CSV, as `conntrack -L expect` has them: tuple, mask, the master's tuple, class, helper, flags."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.documents.expectations import ExpectationsDocument
from ctobserve.model import PROTOCOLS
from ctobserve.render.columns import aligned, glued, joined, texts, where, written
from ctobserve.render.expectation_fields import (
    CLASS,
    EXPECTATION_FIELDS,
    FLAGS,
    HELPER,
    MASK,
    MASTER,
    NETNS,
    PROTONUM,
    TIMEOUT_S,
    ExpectationView,
)
from ctobserve.render.fields import cells, flat_names, known, said
from ctobserve.render.folding import CLAUSE, fitted, rows_fitted
from ctobserve.render.lines import LABEL, other_tuple
from ctobserve.render.tuples import sides


def expectation_lines(found: ExpectationsDocument, columns: int | None = None) -> Iterator[str]:
    """A heading, then a row for each. `columns`: of the terminal, None: each row is one line."""
    labels, view = found.labels, ExpectationView(found.expectations.rows)

    def label(inum: int) -> str:
        return labels.get(inum, str(inum)) if inum else "-"

    width = min(max([5, *(len(label(inum)) for inum in np.unique(NETNS.values(view)).tolist())]), LABEL)
    yield fitted(f"{'NETNS':<{width}}{CLAUSE}{'PROTO':<6} {'LEFT':>6}{CLAUSE} TUPLE, MASK, MASTER", columns)
    if not len(view):
        return
    timed, helped, classed = (known(field, view) for field in (TIMEOUT_S, HELPER, CLASS))
    left = texts(np.where(timed, TIMEOUT_S.values(view), 0))
    parts = (
        aligned(written(NETNS.values(view), label), width),
        CLAUSE,
        aligned(written(PROTONUM.values(view), lambda number: PROTOCOLS.get(number, str(number))), 6),
        " ",
        aligned(glued(where(timed, left), where(~timed, "-")), 6, right=True),
        f"{CLAUSE} ",
        *sides(view.expected),
        *other_tuple(MASK, view, "mask"),
        *other_tuple(MASTER, view, "master"),
        *said(classed, lambda: [f"{CLAUSE}class=", CLASS.texts(view)]),
        *said(helped, lambda: [f"{CLAUSE}helper=", HELPER.texts(view)]),
        *said(FLAGS.values(view) != 0, lambda: [f"{CLAUSE}flags=", FLAGS.texts(view)]),
    )
    yield rows_fitted(parts, len(view), columns)


def expectation_csv(found: ExpectationsDocument) -> Iterator[str]:
    """With every column."""
    view = ExpectationView(found.expectations.rows)
    yield ",".join(flat_names(EXPECTATION_FIELDS))
    if len(view):
        yield joined(list(cells(EXPECTATION_FIELDS, view)), ",", len(view))


def expectation_notes(found: ExpectationsDocument) -> Iterator[str]:
    """How many, and what the rows do not say."""
    shown = len(found.expectations)
    of = "" if found.max is None else f"; each namespace may have {found.max} (nf_conntrack_expect_max)"
    more = f", {found.expectations_not_shown} more not shown (--limit)" if found.expectations_not_shown else ""
    yield f"{shown} expectations by {found.source}{more}{of}"
    if found.source != "netlink":
        yield "whose they are, masks and masters only nf_conntrack_netlink tells, which is not loaded"
