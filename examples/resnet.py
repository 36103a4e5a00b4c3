"""Which residual network finds atrial fibrillation best?

The reference study: ResNet18 and ResNet34 with their own blocks and filters, and 24 custom
networks of seven groups: 26 configurations, five repetitions each, on short single-lead ECGs of
the PhysioNet/CinC Challenge 2017.

    mlflow run . -P grid=resnet.py                       on made-up records, 2 epochs
    mlflow run . -P grid=resnet.py -P data=cinc2017      the whole study (plan for GPUs)
"""

from ecg_mlflow import DemoBudget, Optimizer, Option, Pipeline, Research, ResNet, ResNet18, ResNet34

classic = (
    Option.product(
        Option("model", [ResNet18, ResNet34]),
        Option("blocks", [[2, 2, 2, 2], [3, 4, 6, 3]]),
        Option("filters", [[64, 128, 256, 512], [64, 128, 256, 512]]),
    )
    * Option("layout", ["cnacna"])
    * Option("input_filters", [64])
)

custom = (
    Option("model", [ResNet])
    * Option("layout", ["cna", "cnacna"])
    * Option("input_filters", [8, 32])
    * Option("blocks", [[1] * 7, [2] * 7, [2, 3, 4, 5, 4, 3, 2]])
    * Option("filters", [[4, 4, 8, 8, 16, 16, 20], [4, 8, 16, 32, 64, 128, 256]])
)

# AF against everything else that can be read; noisy recordings are left out.
root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"})

# Ten seconds of signal; three times as many windows from the rarer AF records.
train = (
    root.center_flip()
    .random_resample_signals("normal", loc=300, scale=10)
    .random_split_signals(3000, {"A": 6, "NO": 2})
)
test = root.center_flip().split_signals(3000, step=3000)

research = Research(
    grid=classic + custom,
    train=train,
    test=test,
    classes=["A", "NO"],
    positive="A",
    batch_size=32,
    epochs=300,
    test_every="20 epochs",
    repetitions=5,
    optimizer=Optimizer("adam", learning_rate=1e-3),
    split=0.8,
    seed=0,
    demo=DemoBudget(records=1000, epochs=2, repetitions=1, test_every="1 epoch"),
)
