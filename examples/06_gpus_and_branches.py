"""How do small networks fill a GPU? Several workers on each, several networks in a worker.

    mlflow run . --env-manager local -P grid=06_gpus_and_branches.py -P branches=4
    mlflow run . --env-manager local -P grid=06_gpus_and_branches.py -P gpus=0,1
    mlflow run . --env-manager local -P grid=06_gpus_and_branches.py -P gpus=0:3,1:3 -P branches=4
    ecg-mlflow run 06_gpus_and_branches.py --gpus 0:3,1:3 --branches 4

The first command needs no GPU. `gpus=0,1` makes a worker process on each GPU, `0:3` three on GPU
0; ids are those of nvidia-smi, also UUIDs, also of MIG instances. `branches=4` trains up to four
configurations together in one process, on one stream of batches: each batch is prepared once for
all of them. The losses are those of training alone, and every configuration has its own run.

Only configurations that read the same batches can be branches of one process: here the optimizer
and the network vary, and neither the pipelines nor the batch size.
"""

# In a hurry: --data demo:40 --epochs 1 --branches 2 --configs 0,1

from ecg_mlflow import C, DemoBudget, Optimizer, Option, Pipeline, Research, ResNet

grid = Option("layout", ["cna", "nac"]) * Option("optimizer", ["adam", "sgd"])

root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2})
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={
        "blocks": [1] * 6,
        "filters": [4, 4, 8, 8, 16, 16],
        "input_filters": 8,
    },
    optimizer=Optimizer(C("optimizer"), learning_rate=3e-3),
    train=train,
    test=test,
    classes=["A", "NO"],
    epochs=40,
    test_every="4 epochs",
    demo=DemoBudget(records=400),
)
