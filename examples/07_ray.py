"""How does a study run on a Ray cluster, and how do grid files share what they have in common?

    mlflow run . --env-manager local -P grid=07_ray.py -P executor=ray -P workers=2
    ecg-mlflow run 07_ray.py --executor ray --workers 2
    ecg-mlflow run 07_ray.py --executor ray --workers 16 --gpus-per-worker 0.5 --ray-address auto

(`pip install 'ecg_mlflow[ray]'` first.) Without an address Ray starts on this machine; with one,
the tracking store has to be a server that all nodes reach, and the nodes need `ecg_mlflow`. The
code of this file and of those beside it travels with the jobs; the packed recordings go to each
node once. A node that is lost is seen in seconds, and its runs go on elsewhere.

The runs are the same as without Ray, to the last bit: `--reuse` takes over those that the same
study has finished on processes.
"""

# In a hurry: --data demo:40 --epochs 1 --configs 0 --executor ray --workers 1

from dataclasses import replace

from quickstart import research as quick  # the file beside this one

from ecg_mlflow import Option

# All of the quick start but its grid and name: more seeds of fewer networks.
research = replace(
    quick,
    name="ray",
    grid=Option("layout", ["cna", "nac"]) * Option("input_filters", [8]),
    repetitions=4,
    epochs=30,
)
