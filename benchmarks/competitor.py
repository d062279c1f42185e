"""Run a competitor in a process of its own, so that frameworks do not compete for threads."""

import importlib
import multiprocessing
import os
import resource
import time


class Competitor:
    """A child process that prepares some work once, and does part of it at each call.

    Between the calls, the process waits and uses no processor time.

    Args:
        maker: `"module:function"`. The function returns the work: a function of an amount, which
            may return a dictionary.
        environment: Further environment variables of the process.
        **arguments: Arguments of the maker.
    """

    def __init__(self, maker, environment=None, **arguments):
        self.maker = maker
        self.environment = environment or {}
        self.arguments = arguments
        self.process = None

    def start(self, threads):
        """Start the process with a number of threads.

        Returns:
            None, or the reason why the work is impossible on this machine.
        """
        context = multiprocessing.get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(
            target=_serve,
            args=(child_connection, threads, self.environment, self.maker, self.arguments),
            daemon=True,
        )
        self.process.start()
        # Otherwise `recv` would wait forever if the child process dies.
        child_connection.close()
        return self._answer()

    def __call__(self, amount):
        """Do an amount of the work.

        Returns:
            A dictionary of `seconds`, the peak `memory` of the process in bytes, and the results
            of the work.
        """
        self.connection.send(amount)
        return self._answer()

    def stop(self):
        """End the process."""
        self.connection.close()
        self.process.join()

    def _answer(self):
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError(
                f"The process of {self.maker} with {self.arguments} ended. Its error is above."
            ) from None


def _serve(connection, threads, environment, maker, arguments):
    """Prepare the work in the child process, and do it when asked, until the pipe is closed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.update(environment)
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
        start = time.perf_counter()
        results = work(amount) or {}
        seconds = time.perf_counter() - start
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.send({"seconds": seconds, "memory": memory, **results})
