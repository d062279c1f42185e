"""A competitor in a process of its own, so that frameworks do not fight over threads; it works only while it is asked to."""

import importlib
import multiprocessing
import os
import resource
import time


class Competitor:
    """A child process that makes a piece of work once and does some of it whenever it is called.

    Args:
        maker: `"module:function"`; the function returns the work, a function of an amount, which may return a dictionary.
        environment: Further environment variables of its process.
        **arguments: What the maker is given.
    """

    def __init__(self, maker, environment=None, **arguments):
        self.maker = maker
        self.environment = environment or {}
        self.arguments = arguments
        self.process = None

    def start(self, threads):
        """Start the process, which may use so many threads; returns why the work cannot be done here, None if it can."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(theirs, threads, self.environment, self.maker, self.arguments),
            daemon=True,
        )
        self.process.start()
        theirs.close()  # so that the death of the child ends the wait for its answer
        return self._answer()

    def __call__(self, amount):
        """Do so much; returns `seconds`, the process's peak `memory` in bytes, and what the work has to tell."""
        self.connection.send(amount)
        return self._answer()

    def stop(self):
        """End the process."""
        self.connection.close()
        self.process.join()

    def _answer(self):
        try:
            answer = self.connection.recv()
        except EOFError:
            raise RuntimeError(
                f"The process of {self.maker} with {self.arguments} ended; its error is above."
            ) from None
        return answer


def _serve(connection, threads, environment, maker, arguments):
    """Run in the child: make the work, then do what is asked for until the pipe is closed."""
    number = str(threads)
    os.environ |= {
        "OMP_NUM_THREADS": number,
        "TF_NUM_INTRAOP_THREADS": number,
        "TF_NUM_INTEROP_THREADS": number,
    }
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", **environment}
    module, function = maker.split(":")
    try:
        work = getattr(importlib.import_module(module), function)(**arguments)
    except ImportError as error:
        connection.send(str(error))
        return
    connection.send(None)
    while True:
        try:
            amount = connection.recv()
        except EOFError:
            return
        began = time.perf_counter()
        told = work(amount) or {}
        seconds = time.perf_counter() - began
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.send({"seconds": seconds, "memory": memory, **told})
