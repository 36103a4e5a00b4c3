"""What a run is known by: all that decides its training, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import types
from dataclasses import dataclass

import pytest
from studies import grid_text, small_plan, write_files

import ecg_mlflow
from ecg_mlflow import (
    C,
    Grid,
    Loss,
    Optimizer,
    Option,
    Pipeline,
    ResNet,
    ResNet18,
    ResNet34,
    Split,
    models,
)
from ecg_mlflow.errors import CanonicalError
from ecg_mlflow.grids import ConfigAlias, canonical
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.user_code import UserCode, use
from ecg_mlflow.models.resnet import SpecBuilder
from ecg_mlflow.pipeline import Stages, actions
from ecg_mlflow.pipeline.actions.base import Action
from ecg_mlflow.pipeline.actions.every_batch import CenterFlip, SplitSignals
from ecg_mlflow.pipeline.actions.records import ApplyStep
from ecg_mlflow.study.grid_file import load_grid_file
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.research import Settings
from ecg_mlflow.study.step_factory import keras_step

# --- The package's own ----------------------------------------------------------------------------


def test_the_digest_of_a_configuration_is_fixed():
    config = ConfigAlias(
        {"model": ResNet18, "filters": [64, 128, 256, 512], "layout": "cnacna", "dropout": 0.4}
    )
    assert config.digest == ("94067d96048a3303c1a34a9feb61c66997004a15cfe794058169b8b3f4210aac")


def test_linear_resampling_has_the_digest_of_the_time_when_it_was_the_only_one():
    linear = "ddfa54c4a4a2fccfcc920a8286d106e1c589f70c767271d9a0e242680122fe72"
    assert digest(Pipeline().resample_signals(100, method="linear")) == linear
    assert digest(Pipeline().resample_signals(100)) != linear


def test_the_digest_of_a_design_is_fixed():
    root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO"}).band_pass_signals(0.5, 40)
    train = root.center_flip().random_resample_signals("normal", loc=300, scale=10)
    design = {
        "train": train.random_split_signals(3000, {"A": 6, "NO": C("n")}),
        "test": root.split_signals(3000, step=3000).stages(),
        "optimizer": Optimizer("adamw", learning_rate=1e-3),
        "loss": Loss("focal", gamma=2.0),
        "split": Split((0.7, 0.1, 0.2), stratified=True, seed=3),
    }
    assert digest(design) == "7fb709e8018672652bb6e8c51c33856bd7174b602d250faef51bdc3d02308c42"


USERS = '''
from functools import partial
import numpy as np
from numpy import tanh
from ecg_mlflow import ResNet
WIDTHS = [4, 8]
NOISE = np.random.default_rng(3)
class Base:
    """A class of the user's."""
    scale = 2
    def make(self, x, *, f=f"{WIDTHS[0]:>{3}}"):
        return helper(x) * self.scale
def helper(x):
    """Add, as is said here."""
    from os.path import join
    return np.sin(x) + tanh(x) + WIDTHS[-1] + len(join("a", "b"))
def net(input_shape, n_classes, width=3, **options):
    """Build a network."""
    assert NOISE
    return ResNet(input_shape, n_classes, make=lambda x: Base().make(-x), **options)
value = [net, partial(net, width=5), lambda x: x**2 if x else None]
'''


def load(folder, files, name="steps_of_test"):
    """Run a module from files that stand beside it."""
    write_files(folder, {f"{name}.py": files} if isinstance(files, str) else files)
    use(UserCode.read(folder, [f"{name}.py"]), anew=True)
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def no_users_code():
    yield
    use(UserCode())


def test_the_digest_of_a_users_function_is_fixed(tmp_path):
    # In all versions of Python that this package runs in.
    found = digest(load(tmp_path, USERS).value)
    assert found == "b566ab52c37771b39c8dfb0701b656dd5b97e15fb23b12926cf7a3a02f2d2c83"


NAMED = [Settings, keras_step, Stages, Pipeline, Split, Optimizer, Loss, SpecBuilder, Grid]


def kinds_of(kind):
    return {kind, *(one for child in kind.__subclasses__() for one in kinds_of(child))}


def test_all_that_can_take_part_in_an_identity_has_a_name():
    """By which it is known wherever it stands: anything else is refused as a value."""
    # Subclasses are known once their modules are imported.
    for module in pkgutil.walk_packages(actions.__path__, f"{actions.__name__}."):
        importlib.import_module(module.name)
    concrete = {one for one in kinds_of(Action) if hasattr(one, "name")}
    concrete = {one for one in concrete if one.__module__.startswith("ecg_mlflow.")}
    assert {CenterFlip, ApplyStep, SplitSignals} < concrete
    builders = [one for one in vars(models).values() if callable(one)]
    assert {ResNet, ResNet18, ResNet34} <= {*builders}
    known = [*NAMED, Option, C, *sorted(concrete, key=str), *builders]
    assert len({digest(one) for one in known}) == len(known)
    names = [canonical._NAMES[id(one)][0] for one in known]
    assert len(set(names)) == len(names)


def test_the_exported_classes_that_have_no_name_can_be_no_values():
    exported = [getattr(ecg_mlflow, name) for name in ecg_mlflow.__all__]
    nameless = {
        one.__name__
        for one in exported
        if (inspect.isclass(one) or inspect.isfunction(one)) and id(one) not in canonical._NAMES
    }
    assert nameless == {
        *("DemoBudget", "Research", "RunLogger"),
        *("autolog", "from_arrays", "load_corpus", "load_results", "read_record", "start_run"),
    }
    for name in nameless:
        with pytest.raises(CanonicalError, match=rf"{name}, which has no name .*counts_as"):
            digest([getattr(ecg_mlflow, name)])


def test_what_is_new_in_the_package_and_has_no_name_is_refused(monkeypatch):
    @dataclass(frozen=True)
    class NewAction(Action):
        name = "new_action"
        gain: int

    monkeypatch.setattr(NewAction, "__module__", "ecg_mlflow.pipeline.actions.records")
    with pytest.raises(CanonicalError, match=r"NewAction, which has no name that outlives a move"):
        digest({"train": [NewAction(3)]})
    with pytest.raises(AssertionError, match="two things count as ResNet18"):
        canonical.counts_as("ResNet18", version=2)(types.SimpleNamespace())


def test_a_version_counts_and_where_a_class_of_the_package_stands_does_not(monkeypatch):
    """Neither its module, its docstring nor its source."""
    stages = Pipeline().center_flip().split_signals(100, 100).stages()
    values = [ResNet18, Optimizer("sgd"), stages]
    before = digest(values)
    for kind in (Optimizer, Stages, CenterFlip, SplitSignals):
        monkeypatch.setattr(kind, "__module__", "ecg_mlflow.somewhere.else_")
        monkeypatch.setattr(kind, "__doc__", "Another text.")
    monkeypatch.setattr(ResNet18.describe, "__module__", "ecg_mlflow.somewhere.else_")
    monkeypatch.setattr(ResNet18, "__name__", "ResNetXVIII")
    assert digest(values) == before
    monkeypatch.setitem(canonical._NAMES, id(ResNet18), ("ResNet18", 2))
    assert digest(values) != before


# --- The user's, in all forms ---------------------------------------------------------------------

#: The grid file's step reaches something of `own_parts.py` or of a package, by some way.
STEP = "def step(signal, fs):\n    {}\n"
PARTS = '''
"""A module beside the grid file."""
import math
from own_pack.deep import deeper as far
WIDTH = 3.0
TABLE = {"sizes": [1, 2]}
NAMES = {"a"}
class Config:
    gain = 2
    def apply(self, x):
        return x * self.gain
class Settled(Config):
    pass
CONFIG = Config()
CONFIG.size = 1
def block(x):
    """Say what is done."""
    return inner(x)  # as it is
def inner(x):
    return far(x) * 2
def cached(x):
    return _cached(x)
import functools
@functools.lru_cache
def _cached(x):
    return x + 5
def unrelated(x):
    return x - 1
'''
PACK = {
    "own_pack/__init__.py": "",
    "own_pack/deep.py": "from . import ground\n\ndef deeper(x):\n    return x + ground.LEVEL\n",
    "own_pack/ground.py": "LEVEL = 7.0\n",
}
DECO = "SHARE = 2\nSIZE = 9\ndef twice(f):\n    return lambda x, fs: SHARE * f(x, fs)\n"
LEVEL, WIDTH, INNER = ("LEVEL = 7.0", "LEVEL = 8.0"), ("WIDTH = 3.0", "WIDTH = 4.0"), ("* 2", "* 3")
SIZES, GAIN, SIZE = ("[1, 2]", "[1, 3]"), ("gain = 2", "gain = 3"), ("size = 1", "size = 2")
MORE = ("class Settled(Config):\n    pass", "class Settled(Config):\n    more = 1")
#: What stands above the step, what it does, and what changes it.
FORMS = {
    "function": ("from own_parts import block\n", "return block(signal)", LEVEL, INNER),
    "attribute": (
        *("import own_parts\n", "return own_parts.block(signal)", LEVEL),
        ("def block(x):", "def block(x, y=2):"),
    ),
    "constant": ("from own_parts import WIDTH\n", "return signal * WIDTH", WIDTH),
    "constant attribute": ("import own_parts as p\n", "return signal * p.WIDTH", WIDTH),
    "import inside": (
        *("", "from own_parts import block\n    return block(signal)", LEVEL, INNER),
        ("return inner(x)", "return -inner(x)"),
    ),
    "constant inside": ("", "import own_parts\n    return signal * own_parts.WIDTH", WIDTH),
    "table": ("import own_parts\n", "return signal * own_parts.TABLE['sizes'][0]", SIZES),
    "table inside": ("", "from own_parts import TABLE\n    return TABLE['sizes'][0]", SIZES),
    "set": ("from own_parts import NAMES\n", "return signal * len(NAMES)", ('{"a"}', '{"b"}')),
    "class": (
        *("from own_parts import Settled\n", "return Settled().apply(signal)", GAIN, MORE),
        ("x * self.gain", "x / self.gain"),
    ),
    "class attribute": ("import own_parts\n", "return signal * own_parts.Config.gain", GAIN),
    "class inside": (
        *("", "from own_parts import Settled as S\n    return S().apply(signal)", GAIN),
        ("return x * self", "return -x * self"),
    ),
    "instance": ("from own_parts import CONFIG\n", "return signal * CONFIG.size", SIZE, GAIN),
    "cached": ("from own_parts import cached\n", "return cached(1)", ("x + 5", "x + 6")),
    "star": ("from own_parts import *\n", "return block(signal)", INNER),
    "whole module": ("import own_parts\n", "return getattr(own_parts, 'block')", INNER, LEVEL),
    "default": ("import own_parts\n", "f = lambda x, y=own_parts.WIDTH: x\n    return f(1)", WIDTH),
    "package": ("import own_pack.deep\n", "return own_pack.deep.deeper(signal)", LEVEL),
    "package inside": ("", "import own_pack.deep\n    return own_pack.deep.deeper(signal)", LEVEL),
    "from package": ("", "from own_pack import deep\n    return deep.deeper(signal)", LEVEL),
    "decorator": ("from own_deco import twice\n@twice\n", "pass", ("SHARE = 2", "SHARE = 3")),
    "its argument": (
        *("import functools, own_deco\n@functools.lru_cache(own_deco.SIZE)\n", "pass"),
        ("SIZE = 9", "SIZE = 8"),
    ),
}
#: What changes nothing of all these, but for those of the whole module.
SAME = [
    ('"""A module beside the grid file."""', '"""Another text."""'),
    ('"""Say what is done."""', '"""Say it otherwise.\n\n    At length.\n    """'),
    ("# as it is", "# as it was, or nearly"),
    ("return inner(x)", "return (\n        inner(\n            x,\n        )\n    )"),
    ("def inner(x):\n", "\n\ndef inner(x):\n    '''Now it has one.'''\n"),
    ("* 2\n", "* 0x2\n"),
    ('{"sizes": [1, 2]}', "{'sizes': [1, 2,]}"),
    ("LEVEL = 7.0\n", "LEVEL = 7.0  # metres\n"),
]
OTHER = [("return x - 1", "return x - 2"), ("import math\n", "import math\nimport json\n")]


def identity(folder, form, *changes, before="", name="grid"):
    """Return the digest of the step in a grid file, with some text in its files replaced."""
    head, body, *_ = FORMS[form]
    files = {"own_parts.py": PARTS, "own_deco.py": DECO, **PACK}
    files[f"{name}.py"] = grid_text(before + head + STEP.format(body))
    for old, new in changes:
        assert any(old in text for text in files.values()), old
        files = {file: text.replace(old, new) for file, text in files.items()}
    write_files(folder, files)
    return digest(load_grid_file(folder / f"{name}.py").module.step)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_function_reaches_counts_and_text_that_does_nothing_and_places_do_not(
    tmp_path, form
):
    before = identity(tmp_path, form)
    assert identity(tmp_path, form, *SAME) == before
    if form != "whole module":
        assert identity(tmp_path, form, *OTHER) == before
    assert identity(tmp_path / "another place", form, name="other_name") == before
    for change in FORMS[form][2:]:
        assert identity(tmp_path, form, change) != before, change


@pytest.mark.parametrize("form", ["constant attribute", "constant inside"])
def test_what_a_grid_file_does_to_a_module_counts(tmp_path, form):
    found = {
        identity(tmp_path, form, before=f"import own_parts\nown_parts.WIDTH = {width}\n")
        for width in (3.0, 5, 6)
    }
    assert len(found) == 3


def test_what_a_function_imports_is_not_run(tmp_path):
    change = ("WIDTH = 3.0", "WIDTH = 3.0\nimport own_fragile")
    (tmp_path / "own_fragile.py").write_text("raise RuntimeError('not here')")
    assert len(identity(tmp_path, "import inside", change)) == 64
    assert "own_parts" not in sys.modules


def test_code_counts_as_it_was_read(tmp_path):
    """Whoever edits it meanwhile: it is what trains."""
    before = identity(tmp_path, "import inside")
    one = load_grid_file(tmp_path / "grid.py").module.step
    for file in tmp_path.rglob("*.py"):
        file.write_text(file.read_text().replace("return ", "return 2 * "))
    assert digest(one) == before
    assert digest(load_grid_file(tmp_path / "grid.py").module.step) != before


def test_functions_that_import_each_other_have_an_identity(tmp_path):
    files = {
        "steps_of_test.py": "import own_b\nX = 1\ndef f(n):\n    import own_b\n    own_b.g(n)",
        "own_b.py": "def g(n):\n    import steps_of_test as s\n    s.f(s.X) if n else use(s)",
    }
    before = digest(load(tmp_path, files).f)
    assert digest(load(tmp_path, files).f) == before
    changed = {**files, "own_b.py": files["own_b.py"].replace("use(s)", "use(s, s)")}
    assert digest(load(tmp_path, changed).f) != before


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (
            "import functools, numpy\n@functools.wraps(numpy.median)\ndef f(x):\n    return 1 * x",
            ("1 *", "2 *"),
        ),
        (
            "from contextlib import contextmanager\n@contextmanager\ndef quiet(x):\n    yield 1\n"
            "def f(x):\n    with quiet(x) as y:\n        return y",
            ("yield 1", "yield"),
        ),
    ],
)
def test_what_a_library_has_put_around_a_function_is_the_function(tmp_path, text, change):
    assert digest(load(tmp_path, text).f) != digest(load(tmp_path, text.replace(*change)).f)


def test_a_library_counts_by_its_names(tmp_path, monkeypatch):
    """Also where a function stands in its depths, and of what it is made, changes with versions."""
    library = tmp_path / "site-packages" / "lib_of_test"
    monkeypatch.syspath_prepend(library.parent)
    text = """
from lib_of_test import INIT, around, f
def g():
    from lib_of_test import h
    f(INIT)
@around
def k():
    return 1
"""
    deep = """
import functools
def f(x):
    return NUMBER
class Init:
    pass
def around(f):
    @functools.wraps(f)
    def inner():
        return NUMBER
    return inner
INIT = Init()
h = f
"""
    found = set()
    for depth, number in (("_one", "1"), ("_two", "2")):
        outer = f"from lib_of_test.{depth} import INIT, around, f, h"
        files = {"__init__.py": outer, f"{depth}.py": deep.replace("NUMBER", number)}
        write_files(library, files)
        importlib.invalidate_caches()
        module = load(tmp_path / "own", text)
        found |= {(digest(module.g), digest([module.f]), digest(module.k))}
        for name in [one for one in sys.modules if one.startswith("lib_of_test")]:
            del sys.modules[name]
    assert len(found) == 1


def test_lambdas_in_one_line_are_told_apart(tmp_path):
    text = "fs = [lambda x: x + 1, lambda x: x + 2, lambda x: lambda y: x, lambda x: x + 1]"
    digests = [digest(one) for one in load(tmp_path, text).fs]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]
    spread = text.replace(", lambda", ",\n\n  lambda").replace("x + 1", "(x + 1)  # plus\n")
    assert [digest(one) for one in load(tmp_path, spread).fs] == digests


# --- Studies --------------------------------------------------------------------------------------


def test_a_module_beside_the_grid_file_that_changes_makes_other_runs(tmp_path, corpus):
    """Of which no result of an earlier study is taken over, and none is skipped on resume."""
    part = "BODY = 1\ndef block(n):\n    return n + BODY\n"
    net = """
def net(input_shape, n_classes, layout):
    from own_net import block
    return ResNet(input_shape, n_classes, blocks=[block(3)], layout=layout)
net.describe = lambda *shapes, **options: ResNet.describe(
    *shapes, blocks=[1], filters=[2], input_filters=2, **options)
"""
    grid = grid_text(net, model="net", model_arguments="")

    def identities(*change):
        write_files(tmp_path, {"grid.py": grid, "own_net.py": part.replace(*change)})
        research = load_grid_file(tmp_path / "grid.py").research
        return {run.identity for run in plan_study(research, corpus, StudyRequest()).runs}

    before = identities("", "")
    assert identities("def block(n):\n", 'def block(n):\n    """Say."""  # why\n') == before
    assert not identities("BODY = 1", "BODY = 2") & before


def test_what_trains_a_network_counts(corpus):
    """A builder may name another step than Keras's."""

    def net(input_shape, n_classes, layout):
        raise AssertionError("it is not built for a plan")

    def one(settings, input_shape, seed):
        return 1

    def other(settings, input_shape, seed):
        return 2

    runs = [*small_plan(corpus, model=net, model_arguments={}).runs]
    for net.step_factory in (one, other):
        runs += small_plan(corpus, model=net, model_arguments={}).runs
    assert len({run.identity for run in runs}) == 3 * 2
