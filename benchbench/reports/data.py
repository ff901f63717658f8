"""CSV and JSON: every figure in full precision, for other programs."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from benchbench.contract import Run, format_value
from benchbench.records import to_json
from benchbench.stats import Interval, Row, summarise

FIELDS = (
    "workload",
    "case",
    "contender",
    "role",
    "status",
    "reason",
    "baseline",
    "verdict",
    "processes",
    "unit",
    "time",
    "time_low",
    "time_high",
    "p90",
    "p99",
    "ratio",
    "ratio_low",
    "ratio_high",
    "coverage",
    "roof_share",
    "items_per_second",
    "flop_per_second",
    "error_max",
    "error_rms",
    "baseline_error_max",
    "eps",
    "distribution",
    "version",
    "notes",
)


def _record(row: Row) -> dict[str, Any]:
    def bounds(name: str, found: Interval | None) -> dict[str, float | None]:
        return {
            name: found.estimate if found else None,
            f"{name}_low": found.low if found else None,
            f"{name}_high": found.high if found else None,
        }

    return {
        "workload": row.workload,
        "case": row.case,
        "contender": row.contender,
        "role": row.role,
        "status": row.status,
        "reason": row.reason,
        "baseline": row.baseline,
        "verdict": row.verdict,
        "processes": row.processes,
        "unit": row.unit,
        **bounds("time", row.latency),
        "p90": row.quantiles.get("p90"),
        "p99": row.quantiles.get("p99"),
        **bounds("ratio", row.ratio),
        "coverage": row.latency.coverage if row.latency else None,
        "roof_share": row.roof_share.estimate if row.roof_share else None,
        "items_per_second": row.throughput,
        "flop_per_second": row.flops,
        "error_max": row.errors.get("max"),
        "error_rms": row.errors.get("rms"),
        "baseline_error_max": row.baseline_errors.get("max"),
        "eps": row.errors.get("eps"),
        "distribution": row.provider.distribution,
        "version": row.provider.version,
        "notes": "; ".join(row.notes),
    }


def render_csv(run: Run) -> str:
    """A header line, then a line for each case and contender; axes and metrics as columns."""
    rows = summarise(run)
    axes = list(dict.fromkeys(axis for row in rows for axis in row.params))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    signals = list(dict.fromkeys(name for row in rows for name in row.signals))
    names = [
        *FIELDS,
        *(f"axis:{axis}" for axis in axes),
        *(f"metric:{name}" for name in metrics),
        *(f"signal:{name}" for name in signals),
    ]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        record = _record(row)
        record.update({f"axis:{a}": format_value(v) for a, v in row.params.items()})
        record.update({f"metric:{name}": value for name, value in row.metrics.items()})
        record.update({f"signal:{name}": value for name, value in row.signals.items()})
        writer.writerow(record)
    return buffer.getvalue()


def render_json(run: Run) -> str:
    """One object: the run's header, the summary and the stored results with every sample."""
    summary = []
    for row in summarise(run):
        record = _record(row)
        record["params"] = row.params
        record["metrics"] = row.metrics
        record["signals"] = row.signals
        record["notes"] = row.notes
        summary.append(record)
    content = {
        **run.header,
        "complete": run.complete,
        "processes": run.processes,
        "events": run.events,
        "summary": summary,
        "results": run.results,
    }
    return json.dumps(to_json(content), indent=1) + "\n"
