"""Reports turn a run into text: they format the figures of ``stats``, and compute none."""

from __future__ import annotations

from benchbench.contract import Report


def builtin() -> dict[str, Report]:
    """The built-in reports, by the name that ``--format`` takes."""
    from benchbench.reports import data, html, markdown, table, trackers
    from benchbench.reports.trackers.entries import of_run

    reports = (
        Report(name="table", render=table.render, doc="Tables for a terminal."),
        Report(
            name="markdown",
            render=markdown.render,
            doc="Tables for a pull request or a CI summary.",
            suffix=".md",
        ),
        Report(
            name="html",
            render=html.render,
            doc="One page with everything in it, for a browser.",
            suffix=".html",
        ),
        Report(
            name="csv",
            render=data.render_csv,
            doc="A line for each case and contender, in full precision.",
            suffix=".csv",
        ),
        Report(
            name="json",
            render=data.render_json,
            doc="The header, a summary of each case and contender, and every sample.",
            suffix=".json",
        ),
        *(
            Report(name=name, render=render, doc=trackers.FORMATS[name][1], suffix=".json")
            for name, render in trackers.renderers(of_run).items()
        ),
    )
    return {report.name: report for report in reports}
