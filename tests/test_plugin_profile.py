"""The report ``profile``: shares within a factor of the fastest, misses as infinity."""

import math
from dataclasses import replace

import pytest

import benchbench as bb
from benchbench.stats import summarise
from benchbench_plugins import optimizers
from benchbench_plugins.optimizers.profile import FACTORS, profiles, render


def result(case, contender, time, *, status="ok", kind="races"):
    return bb.Result(
        case=f"{kind}/{case}[n=1]",
        workload=f"{kind}/{case}",
        params={"n": 1},
        contender=contender,
        baseline="a",
        process=0,
        status=status,
        reason="" if status == "ok" else "because",
        samples=(time,) * 4 if status == "ok" else (),
        calls=1,
    )


RESULTS = (
    result("one", "a", 1.0),
    result("one", "b", 2.0),
    result("two", "a", 4.0),
    result("two", "b", 1.0),
    result("three", "a", 1.0),
    result("three", "b", 0.0, status="wrong"),
    result("three", "c", 0.0, status="skipped"),
)
RUN = bb.Run(id="r", header={}, results=RESULTS)


def by_name(results):
    found = profiles(summarise(replace(RUN, results=tuple(results))))
    return {profile.contender: profile for profile in found}


def test_shares_are_cumulative_over_cases():
    found = by_name(RESULTS)
    assert set(found) == {"a", "b"}
    shares = dict(zip(FACTORS, found["a"].shares, strict=True))
    assert shares[1.0] == shares[2.0] == pytest.approx(2 / 3)
    assert shares[5.0] == 1.0
    shares = dict(zip(FACTORS, found["b"].shares, strict=True))
    assert (shares[1.0], shares[2.0], shares[10.0]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    assert (found["a"].misses, found["b"].misses) == (0, 1)
    assert (found["a"].cases, found["b"].cases) == (3, 3)


def test_speed_ups_are_geometric_means_over_the_baseline():
    found = by_name(RESULTS)
    assert found["a"].speed_up == pytest.approx(1.0)
    assert found["b"].speed_up == pytest.approx(math.sqrt(0.5 * 4.0))


def test_nobody_is_fastest_where_everyone_missed():
    found = by_name([result("one", n, 0.0, status="wrong") for n in "ab"])
    assert found["a"].shares == (0.0,) * len(FACTORS)
    assert math.isnan(found["a"].speed_up)


def test_tables_have_one_kind_each():
    more = [
        *RESULTS,
        result("one", "a", 1.0, kind="others"),
        result("one", "z", 3.0, kind="others"),
    ]
    text = render(replace(RUN, results=tuple(more)))
    first, second = text.split("\nothers\n")
    assert "\nraces\n" in first
    assert "z" not in first.split("races", 1)[1].split("\n", 3)[2]
    assert second.splitlines()[1].startswith("a ")
    assert second.splitlines()[2].split() == [
        "z",
        "1",
        "0%",
        "0%",
        "0%",
        "0%",
        "100%",
        "100%",
        "0.333x",
    ]
    assert "1.41x" in first and first.rstrip().endswith("1")


def test_the_plugin_contributes_it():
    (report,) = optimizers.benchbench_reports()
    assert report.name == "profile"
    assert "infinitely long" in report.render(RUN)
