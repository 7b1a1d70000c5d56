"""The interpreter ends, or forks, while a call is under way."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

HEAD = """
    import os, sys, threading, time
    import numpy as np
    import cellsparse as cs
    image, truth, labels = cs.synthetic.field(seed=2, shape=(256, 256))
    large = np.tile(image, (24, 24))
    model = cs.StarDist(n_rays=8, n_filter_base=8, n_depth=1)
    begun = threading.Event()

    def predict():
        begun.set()
        model.predict(large, tile=256, threads=1)

    def train():
        def callback(event):
            begun.set()
        model.train(
            image, labels, steps=100000, batch_size=2, patch_size=64, init="none", progress=False, callback=callback
        )

    def choose():
        begun.set()
        cs.choose_algorithm([image], [labels])

    # An array that lets other threads of Python go on while it is read, as zarr does.
    class Slow:
        shape, dtype = large.shape, large.dtype

        def __getitem__(self, place):
            begun.set()
            time.sleep(0.01)
            return large[place]

    def parts():
        model.predict_large(Slow(), tile=256, threads=1, skip_empty=False)

    def slow_callback():
        def callback(event):
            begun.set()
            time.sleep(0.01)
        model.train(
            image, labels, steps=100000, batch_size=2, patch_size=64, init="none", progress=False, callback=callback
        )

    def single():
        begun.set()
        while True:
            cs.watershed(large, (large > 200).astype(np.int32))

    def begin(work, daemon=True):
        thread = threading.Thread(target=work, daemon=daemon)
        thread.start()
        begun.wait(30)
        time.sleep(0.3)
        return thread
"""


def run(work, timeout=60):
    """The output of a program, which has to end well, and the seconds after its last line."""
    program = textwrap.dedent(HEAD) + textwrap.dedent(work)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            out = child.stdout.readline()
            begin = time.monotonic()
            rest, err = child.communicate(timeout=timeout)
        finally:
            child.kill()
    assert child.returncode == 0, (child.returncode, err)
    assert err == "", err
    return out + rest, time.monotonic() - begin


@pytest.mark.parametrize("work", ["predict", "train", "slow_callback", "choose", "parts", "single"])
def test_the_interpreter_ends_while_a_daemon_thread_works(work):
    out, seconds = run(f"""
        thread = begin({work})
        assert thread.is_alive()
        print("ends", flush=True)
    """)
    assert out == "ends\n" and seconds < 5


@pytest.mark.parametrize("work", ["predict", "train"])
def test_sys_exit_ends_the_interpreter_while_a_daemon_thread_works(work):
    out, seconds = run(f"""
        begin({work})
        print("ends", flush=True)
        sys.exit()
    """)
    assert out == "ends\n" and seconds < 5


def test_the_interpreter_waits_for_a_thread_that_is_no_daemon():
    out, _ = run("""
        def work():
            begun.set()
            found = model.predict(np.tile(image, (6, 6)), tile=256, threads=1)
            print("found", found.labels.shape)

        begin(work, daemon=False)
        print("ends", flush=True)
    """)
    assert out == "ends\nfound (1536, 1536)\n"


def test_a_call_at_exit_works():
    out, _ = run("""
        import atexit
        atexit.register(lambda: print("found", model.predict(image).labels.shape))
        begin(predict)
        print("ends", flush=True)
    """)
    assert out == "ends\nfound (256, 256)\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_during_calls_leaves_a_parent_and_a_child_that_work():
    out, _ = run("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = model.predict(image).labels
        threads = [begin(predict), begin(single)]
        print("forks", flush=True)
        child = os.fork()
        if child == 0:
            # The threads of the parent, and what they hold, did not come along.
            assert np.array_equal(model.predict(image).labels, expected)
            history = model.train(image, labels, steps=1, batch_size=2, patch_size=64, init="none", progress=False)
            assert len(history) == 1 and cs.watershed(image, expected).shape == image.shape
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert np.array_equal(model.predict(image).labels, expected)
        print("both")
    """)
    assert out == "forks\nboth\n"
