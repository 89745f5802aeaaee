"""What the namespaces of a stream are called: a name outlives its namespace a little, and never passes on to another."""

from __future__ import annotations

from ctobserve.render.names import BELIEVED_NS, Names


def test_names_do_not_outlive_their_namespaces():
    there = {7: "blue", 8: "green"}
    now = 10**12
    names = Names(lambda: dict(there), lambda: now, str)
    assert names.of([7, 8]) == {7: "blue", 8: "green"}
    # Its last events come when its name is gone already.
    del there[7]
    now += BELIEVED_NS + 1
    assert names.of([7])[7] == "blue"
    names.ended({7})
    assert names.of([7])[7] == "blue", "more of them may come"
    names.ended(set())
    assert names.of([7])[7] == "7", "what comes now is another's"
    there[7] = "red"
    names.ended(set())
    now += BELIEVED_NS + 1
    assert names.of([7])[7] == "red"


def test_a_name_is_looked_up_again_after_a_while():
    there = {7: "blue"}
    now = 10**12
    names = Names(lambda: dict(there), lambda: now, str)
    assert names.of([7])[7] == "blue"
    there[7] = "red"
    assert names.of([7])[7] == "blue"
    now += BELIEVED_NS + 1
    assert names.of([7])[7] == "red"
    # What is gone is forgotten at the second look: nothing grows with the namespaces that ever were.
    there.clear()
    for _ in range(2):
        now += BELIEVED_NS + 1
        names.of([])
    assert names.of([]) == {}


def test_a_look_that_takes_long_is_taken_seldom():
    now = 10**12
    looks = []

    def look():
        nonlocal now
        looks.append(now)
        now += 1_000_000_000
        return {7: "blue"}

    names = Names(look, lambda: now, str)
    names.of([7])
    now += 9_000_000_000
    assert names.of([8])[8] == "8" and len(looks) == 1, "nobody waits for it more than a tenth of the time"
    now += 2_000_000_000
    assert names.of([9])[9] == "9" and len(looks) == 2
    now += 49_000_000_000
    assert names.of([7]) and len(looks) == 2, "what is known is believed for fifty times as long"
    now += 2_000_000_000
    assert names.of([7]) and len(looks) == 3


def test_a_new_number_is_looked_up_at_once_even_where_looks_are_slow():
    now = 10**12
    looks = []

    def look():
        nonlocal now
        looks.append(now)
        now += 300_000_000
        return {number: f"space{number}" for number in range(50)}

    names = Names(look, lambda: now, str)
    names.of(())
    names.ended({7})
    names.ended(set())
    assert names.of([7])[7] == "space7", "the number is another's: looked up 0 s after the last look"
    names.ended({7})
    names.ended(set())
    assert names.of([7])[7] == "space7" and len(looks) == 3
    names.ended({7})
    names.ended(set())
    assert names.of([7])[7] == "7" and len(looks) == 3, "a second is used up"
    begun = now
    for number in range(50, 150):
        now += 100_000_000
        names.of([number])
    taken = (len(looks) - 3) * 300_000_000
    assert taken <= (now - begun) // 10 + 300_000_000
