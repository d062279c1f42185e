"""Time of `data.read_table`, as a multiple of the time of `pandas.read_csv`.

    python benchmarks/tables.py adult_income.csv

`read_table` also infers the kinds of the columns, computes their statistics, splits the rows, and
makes the arrays. Both functions read the same file in the same process, and take turns. The script
prints the shortest processor time and the shortest elapsed time over the repetitions. Processor
time depends less on other programs. The script writes no file.
"""

import argparse
import time
import warnings


def measure(read):
    """Return the processor time and the elapsed time of one call in milliseconds."""
    cpu = time.process_time()
    start = time.perf_counter()
    read()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="Text file of a table, with a header and commas.")
    parser.add_argument("--repetitions", type=int, default=15)
    settings = parser.parse_args()

    import pandas

    from keras_gen import data

    readers = {
        "pandas.read_csv": lambda: pandas.read_csv(settings.path),
        "data.read_table": lambda: data.read_table(settings.path),
    }
    times = {name: [] for name in readers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about categories that no training row has
        for repetition in range(settings.repetitions + 1):
            for name, read in readers.items():
                measured = measure(read)
                if repetition:  # the first repetition includes imports
                    times[name].append(measured)
    best = {
        name: [min(pair[0] for pair in each), min(pair[1] for pair in each)]
        for name, each in times.items()
    }
    print(f"{'':17}  processor time  elapsed time")
    for name, (cpu, elapsed) in best.items():
        print(f"{name:17}  {cpu:11.1f} ms  {elapsed:9.1f} ms")
    other, ours = best.values()
    print(f"{'ratio':17}  {ours[0] / other[0]:14.2f}  {ours[1] / other[1]:12.2f}")


if __name__ == "__main__":
    main()
