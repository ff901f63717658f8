from __future__ import annotations

import io

from benchbench.cli.progress import Progress, minutes


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(done, process=0, total=10, left=75.0):
    return {
        "type": "progress",
        "done": done,
        "total": total,
        "process": process,
        "case": "shapes/area[n=1]",
        "seconds_left": left,
    }


def test_a_pipe_gets_a_line_for_each_process_only():
    stream = io.StringIO()
    progress = Progress(2, stream)
    for done in range(10):
        progress.update(record(done, process=done // 5))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "process 1 of 2: 0/10 cases done, 1 min 15 s left",
        "process 2 of 2: 5/10 cases done, 1 min 15 s left",
    ]


def test_a_terminal_gets_one_line_that_changes_and_goes():
    stream = Terminal()
    progress = Progress(2, stream)
    progress.update(record(3))
    progress.update(record(4, left=None))
    progress.say("a plugin says something")
    progress.close()
    shown = stream.getvalue()
    assert "3/10, 1 min 15 s left  shapes/area[n=1]" in shown
    assert "4/10  shapes/area[n=1]" in shown
    assert shown.endswith("\r\033[Ka plugin says something\n")


def test_what_happens_is_said_and_verbose_says_more():
    died = {"type": "event", "kind": "died", "text": "it hung", "log": "last words\n"}
    case = {"type": "event", "kind": "case", "case": "c", "process": 0, "seconds": 1.0}
    wrong = {"type": "result", "status": "wrong", "contender": "liar", "reason": "differs"}
    shown = {}
    for verbose in (False, True):
        stream = io.StringIO()
        progress = Progress(1, stream, verbose=verbose)
        for event in (died, case, wrong):
            progress.update(event)
        shown[verbose] = stream.getvalue()
    assert shown[False] == "it hung\n"
    assert shown[True] == ("it hung\nlast words\n  c, process 1: 1.00 s\n  liar wrong: differs\n")


def test_what_every_worker_finds_is_said_once():
    stream = io.StringIO()
    progress = Progress(3, stream)
    for text in ("no kernels", "no kernels", "another thing", "no kernels"):
        progress.update({"type": "event", "kind": "note", "text": text})
    for _ in range(2):
        progress.update({"type": "event", "kind": "died", "text": "it hung"})
    assert stream.getvalue().splitlines() == ["no kernels", "another thing", "it hung", "it hung"]


def test_minutes():
    assert [minutes(s) for s in (0.4, 59, 80, 3600)] == ["0 s", "59 s", "1 min 20 s", "60 min 0 s"]
