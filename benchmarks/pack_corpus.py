"""Times how long a folder of WFDB records takes to pack into a corpus and to open again.

    python benchmarks/pack_corpus.py <folder or glob> [--labels FILE] [--repeats 3]

Packing starts from an empty cache each time; the files themselves are in the page cache after
the first time, so the slowest is given beside the median. Opening is timed twice: by the
corpus's own path, and by the folder, where the size and time of every file is looked at.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

from ecg_mlflow.records import Corpus, load_corpus


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="a folder of WFDB records, or a glob of their headers")
    parser.add_argument("--labels", help="label file, by default the one beside the records")
    parser.add_argument("--repeats", type=int, default=3, help="times to pack (default 3)")
    arguments = parser.parse_args()

    def load() -> Corpus:
        return load_corpus(arguments.data, arguments.labels)

    packed = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["ECG_MLFLOW_CACHE"] = cache
            packed.append(seconds(load))
            corpus = load()
            opened = [seconds(partial(Corpus.open, corpus.path)) for _ in range(11)]
            by_folder = [seconds(load) for _ in range(11)]
            verified = seconds(corpus.verify)
    samples = corpus.signals.data
    print(f"{len(corpus)} records, {len(corpus.bad)} left out, {len(corpus.copies)} copies")
    print(f"{samples.nbytes / 1e6:.0f} MB of {samples.dtype}")
    print(f"pack            {statistics.median(packed):8.2f} s (slowest {max(packed):.2f} s)")
    print(f"open            {statistics.median(opened) * 1e3:8.1f} ms (aim < 50 ms)")
    print(f"open by folder  {statistics.median(by_folder) * 1e3:8.1f} ms")
    print(f"verify          {verified * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
