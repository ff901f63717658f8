"""Messages survive any pipe; a forked child cannot speak on it."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from benchbench.protocol import Board, Channel, Lines, decode, encode, write_all

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
messages = st.dictionaries(st.text(), values, max_size=4).map(lambda m: {**m, "type": "x"})


@given(messages)
def test_a_message_is_one_line_and_comes_back(message):
    line = encode(message)
    assert line.count(b"\n") == 1 and line.isascii()
    assert decode(line) == message


def test_non_finite_numbers_travel_as_text():
    assert decode(encode({"type": "x", "samples": [float("nan"), float("inf")]})) == {
        "type": "x",
        "samples": ["nan", "inf"],
    }


@pytest.mark.parametrize("line", [b"\xff", b"[1]", b'{"a": 1}', b"nonsense"])
def test_what_is_no_message_is_an_error(line):
    with pytest.raises(ValueError):
        decode(line)


@settings(deadline=None, max_examples=25)
@given(st.lists(messages, min_size=1, max_size=4), st.integers(1, 50))
def test_lines_are_put_together_however_the_pipe_cuts_them(sent, size):
    reading, writing = os.pipe()
    data = b"".join(map(encode, sent))

    def write():
        for start in range(0, len(data), size):
            os.write(writing, data[start : start + size])
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    lines = Lines(reading)
    received = [lines.receive(5.0) for _ in sent]
    assert received == sent
    assert lines.receive(5.0) is None and lines.closed
    writer.join()
    os.close(reading)


def test_nothing_in_time_is_none_and_leaves_the_pipe_open():
    reading, writing = os.pipe()
    lines = Lines(reading)
    assert lines.receive(0.01) is None
    assert not lines.closed
    write_all(writing, encode({"type": "late"}))
    assert lines.receive(1.0) == {"type": "late"}
    os.close(reading)
    os.close(writing)


def test_the_board_shows_each_announcement_once_and_only_the_latest():
    writer = Board()
    reader = Board(os.dup(writer.descriptor))
    assert reader.read() is None
    writer.write({"type": "stage", "contender": "first"})
    writer.write({"type": "stage", "contender": "second"})
    assert reader.read() == {"type": "stage", "contender": "second"}
    assert reader.read() is None
    writer.write({"type": "stage", "contender": "second"})
    assert reader.read() is not None  # said again: a new step has begun
    writer.write({"type": "stage", "contender": "x" * 9000})
    assert reader.read()["contender"].startswith("xxx")
    reader.close()
    writer.close()


FORKING = """
import os, sys
from benchbench.protocol import Channel, STRAY_EXIT_CODE
reading, writing = os.pipe()
out_reading, out_writing = os.pipe()
channel = Channel(reading, out_writing)
channel._announced = "the one that forks"
child = os.fork()
if child == 0:
    os.write(out_writing, b"a lie")       # goes nowhere: the descriptor is no longer the pipe
    channel.send({"type": "result"})      # ends the child
    print("still here")
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == STRAY_EXIT_CODE, status
assert channel.strays() == {"the one that forks"}
assert channel.strays() == set()
os.set_blocking(out_reading, False)
try:
    print(os.read(out_reading, 100))
except BlockingIOError:
    print("silent")
"""


def test_a_forked_child_is_silent_and_ends_and_is_counted():
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("silent\n", "")


FORK_WITHOUT_PYTHON = FORKING.replace(
    "child = os.fork()", "import ctypes\nchild = ctypes.CDLL(None).fork()"
).replace('    os.write(out_writing, b"a lie")', "    pass")


def test_a_fork_behind_pythons_back_is_seen_too():
    done = subprocess.run(
        [sys.executable, "-c", FORK_WITHOUT_PYTHON], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("silent\n", "")


def test_a_worker_without_a_parent_ends():
    code = (
        "import os, signal\n"
        "from benchbench.protocol import Channel\n"
        "reading, writing = os.pipe()\n"
        "gone, out = os.pipe(); os.close(gone)\n"
        "Channel(reading, out).send({'type': 'x'})\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_descriptors_do_not_leak_into_programs_that_a_contender_starts():
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_inheritable(writing, True)
    Channel(reading, writing)
    assert not os.get_inheritable(reading) and not os.get_inheritable(writing)
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN  # Python's own default, relied on
