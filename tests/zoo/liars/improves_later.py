"""Returns a rough answer at once and lets a thread put the exact one in its place."""

import threading
import time

import benchbench as bb


@bb.implementation("liars/product", "improves_later")
def improves_later(inputs):
    def call():
        output = inputs.x @ inputs.w

        def replace():
            time.sleep(0.001)  # longer than a busy machine holds the caller up before it returns
            output.add_(0)
            output.mul_(1.000001)

        threading.Thread(target=replace).start()
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [improves_later]
