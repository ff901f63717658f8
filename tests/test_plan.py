"""Planning is pure: descriptions in, cases out."""

import json

import pytest
from hypothesis import given, strategies as st

from benchbench.catalog import Description, ImplementationInfo, WorkloadInfo
from benchbench.contract import Case, format_value
from benchbench.errors import PlanError, UsageError
from benchbench.grids import points, preset_grids
from benchbench.plan import parse_value, plan
from benchbench.records import planned_from_json, to_json


def workload(name="math/double", **fields):
    contenders = fields.pop("contenders", ("eager", "fast"))
    infos = {n: ImplementationInfo(name=n) for n in contenders}
    defaults = {
        "baseline": "eager",
        "axes": {"shape": ((8, 8), (64, 64)), "dtype": ("float32", "bfloat16")},
        "presets": {
            "quick": ({"shape": ((8, 8),)},),
            "standard": ({"shape": ((8, 8), (64, 64)), "dtype": ("float32", "bfloat16")},),
        },
    }
    return WorkloadInfo(name=name, contenders=infos, **{**defaults, **fields})


def description(*workloads):
    return Description(workloads={w.name: w for w in workloads})


TWO = description(
    workload(),
    workload("text/upper", axes={"n": (10, 100)}, presets={}, contenders=("eager", "simd")),
)


def ids(planned):
    return [p.case.id for p in planned]


def test_a_preset_takes_first_values_of_axes_it_leaves_out():
    assert ids(plan(TWO)) == ["math/double[shape=8x8,dtype=float32]", "text/upper[n=10]"]


def test_a_missing_preset_falls_back_to_the_next_smaller_one():
    assert len(plan(TWO, ["math"], preset="standard")) == 4
    assert ids(plan(TWO, ["math"], preset="full")) == ids(plan(TWO, ["math"], preset="standard"))


@pytest.mark.parametrize("pattern", ["math", "math/", "math/*", "math/double", "*/double"])
def test_patterns(pattern):
    assert {p.case.workload for p in plan(TWO, [pattern])} == {"math/double"}


def test_overridden_axes_replace_the_presets_values_and_select_workloads():
    planned = plan(TWO, axes={"dtype": ["bfloat16"], "shape": ["8x8", "3x5"]})
    assert ids(planned) == [
        "math/double[shape=8x8,dtype=bfloat16]",
        "math/double[shape=3x5,dtype=bfloat16]",
    ]


def test_the_baseline_always_runs_along():
    (planned,) = plan(TWO, contenders=["si*"])
    assert planned.case.workload == "text/upper"
    assert planned.contenders == ("eager", "simd")


def test_contenders_with_presets_join_in_those_or_by_name():
    info = workload(contenders=("eager",))
    slow = ImplementationInfo(name="compiled", presets=("standard",))
    both = description(
        WorkloadInfo(
            name=info.name,
            baseline="eager",
            axes=info.axes,
            contenders={**info.contenders, "compiled": slow},
        )
    )
    assert plan(both)[0].contenders == ("eager",)
    assert plan(both, preset="standard")[0].contenders == ("eager", "compiled")
    assert plan(both, contenders=["compiled"])[0].contenders == ("eager", "compiled")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patterns": ["maths"]}, r"no workload matches 'maths'.*'math'"),
        ({"preset": "quik"}, r"no preset 'quik'.*'quick'"),
        ({"axes": {"dtyp": ["float32"]}}, r"no selected workload has an axis 'dtyp'.*'dtype'"),
        ({"axes": {"dtype": ["bfloat"]}}, r"has no dtype=bfloat.*'bfloat16'"),
        ({"axes": {"shape": ["8by8"]}}, r"has no shape=8by8"),
        ({"contenders": ["eagr"]}, r"no selected workload has a contender 'eagr'.*'eager'"),
    ],
)
def test_mistyped_names_get_a_suggestion(arguments, message):
    with pytest.raises(UsageError, match=message):
        plan(TWO, **arguments)


def test_names_that_exist_but_never_together_are_a_plan_error():
    with pytest.raises(PlanError, match="nothing to run"):
        plan(TWO, axes={"n": ["10"]}, contenders=["fast"])
    with pytest.raises(PlanError, match="no plugin contributes a workload"):
        plan(description())


def test_device_selects_and_defaults_to_the_cpu():
    gpu = workload("math/gpu", axes={"device": ("cpu", "cuda")}, presets={})
    both = description(gpu, workload("math/plain", axes={"n": (1,)}, presets={}))
    assert [p.case.device for p in plan(both)] == ["cpu", "cpu"]
    assert ids(plan(both, device="cuda")) == ["math/gpu[device=cuda]"]
    assert len(plan(both, device="cpu")) == 2
    with pytest.raises(UsageError, match="runs on the CPU only"):
        plan(both, ["math/plain"], device="cuda")


scalars = st.one_of(
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text("abcxyz0189_", min_size=1, max_size=6),
)
values = st.one_of(scalars, st.lists(st.integers(0, 999), min_size=1, max_size=4).map(tuple))
axes = st.dictionaries(
    st.text("abcd", min_size=1, max_size=3), st.lists(values, min_size=1, max_size=4), max_size=3
)


@given(axes)
def test_points_are_distinct_and_cover_the_grid(grid):
    found = [tuple((type(v), v) for v in p.values()) for p in points(grid, [grid])]
    assert len(found) == len(set(found))
    expected = 1
    for choices in grid.values():
        expected *= len({(type(v), v) for v in choices})
    assert len(found) == expected
    assert list(points(grid, [grid, grid])) == list(points(grid, [grid]))


@given(axes)
def test_every_known_value_can_be_typed(grid):
    info = WorkloadInfo(name="a/b", baseline="x", axes={k: tuple(v) for k, v in grid.items()})
    for axis, choices in info.axes.items():
        for value in choices:
            text = format_value(value)
            assert format_value(parse_value(text, axis, info)) == text


@given(axes, st.integers(0, 2**31))
def test_planned_cases_survive_json(grid, seed):
    info = WorkloadInfo(
        name="a/b",
        baseline="x",
        axes={k: tuple(v) for k, v in grid.items()},
        contenders={"x": ImplementationInfo(name="x")},
    )
    for planned in plan(description(info), seed=seed):
        assert planned_from_json(json.loads(json.dumps(to_json(planned)))) == planned


def test_preset_grids_of_a_workload_without_presets():
    assert preset_grids(workload(presets={}), "full") == [{}]
    assert Case(workload="a/b", params={}).id == "a/b[]"


def test_text_may_be_new_on_open_axes_only():
    named = workload("nets/any", axes={"model": ("a", "b"), "n": (1,)}, presets={})
    with pytest.raises(UsageError, match="no model=c"):
        plan(description(named), axes={"model": ["c"]})
    opened = workload(
        "nets/any", axes={"model": ("a", "b"), "n": (1,)}, presets={}, open_axes=("model",)
    )
    planned = plan(description(opened), axes={"model": ["c", "a"]})
    assert ids(planned) == ["nets/any[model=c,n=1]", "nets/any[model=a,n=1]"]
    with pytest.raises(UsageError, match="no model="):
        plan(description(opened), axes={"model": [""]})
