"""Imports point one way, and each framework stays in the files that own it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = ("models", "datasets", "search_spaces", "cluster")
OWNERS = {  # framework -> the modules that may import it
    "ray": {
        "tuning.study", "tuning.one_factor", "tuning.trials", "tuning.searcher", "tuning.grid", "tuning.portfolio",
        "tuning.gpu_share", "tuning.scheduler", "tuning.trial", "tuning.recorder", "tuning.finals", "tuning.waiting",
        "tuning.data_parallel", "tuning.jobs", "tuning.client", "tuning.failures", "cluster.session", "cluster.nodes",
        "cluster.rehearsal", "cluster.spot_notice",
    },
    "mlflow": {"tuning.tracking", "tuning.mlflow_model"},
    "optuna": {
        "search_spaces", "search_spaces.*", "tuning.searcher", "tuning.cube", "tuning.proposals", "tuning.study_file",
        "tuning.optuna_study", "tuning.warm_start",
    },
    "pyarrow": {"datasets.object_store", "datasets.remote", "tuning.storage"},
    "torch": {
        "models.*", "datasets.__main__", "tuning.training", "tuning.loader", "tuning.scores", "tuning.augment",
        "tuning.policies", "tuning.formats", "tuning.optimizer", "tuning.classifier",
        "tuning.costs", "tuning.checkpoint", "tuning.export", "tuning.trial", "tuning.gpu_share",
        "tuning.data_parallel", "tuning.team",
        "tuning.mlflow_model",
    },
}  # fmt: skip
ON_TOP = {"datasets.__main__"}  # a command line may use tuning: its sheet shows what the training does to images
LAYERS = ("launch", "study", "trial", "training", "spec")  # an earlier one may import a later one, never the reverse


def modules() -> dict[str, ast.Module]:
    found = {}
    for package in (*LEAVES, "tuning"):
        for path in sorted((ROOT / package).glob("*.py")):
            name = package if path.stem == "__init__" else f"{package}.{path.stem}"
            found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(tree: ast.AST, *, only_at_runtime: bool = False) -> set[str]:
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if only_at_runtime and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            names |= imports(node, only_at_runtime=only_at_runtime)
    return names


def packages(name: str) -> set[str]:
    return {imported.split(".")[0] for imported in imports(MODULES[name])}


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in LEAVES and name not in ON_TOP])
def test_leaves_import_no_sibling(name: str) -> None:
    own = name.split(".")[0]
    assert packages(name) & ({*LEAVES, "tuning"} - {own}) == set()


@pytest.mark.parametrize("framework", OWNERS)
def test_each_framework_stays_with_its_owners(framework: str) -> None:
    users = {
        name for name in MODULES if framework in {i.split(".")[0] for i in imports(MODULES[name], only_at_runtime=True)}
    }
    owned = {name for name in users if name in OWNERS[framework] or f"{name.split('.')[0]}.*" in OWNERS[framework]}
    assert users - owned == set()


def test_layers_import_downwards_only() -> None:
    reached = {name: reachable(f"tuning.{name}") for name in LAYERS}
    for position, name in enumerate(LAYERS):
        for above in LAYERS[:position]:
            assert f"tuning.{above}" not in reached[name], f"{name} reaches {above}"


def reachable(start: str) -> set[str]:
    seen, todo = set[str](), [start]
    while todo:
        for name in imports(MODULES[todo.pop()]) & set(MODULES):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


@pytest.mark.parametrize("name", MODULES)
def test_a_module_opens_with_one_sentence_and_stays_small(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name])
    assert docstring
    assert docstring.splitlines()[0].rstrip().endswith((".", "`", ",", ")", ":")) or "\n" in docstring
    path = ROOT / (name.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / name / "__init__.py"
    assert len(path.read_text().splitlines()) <= 300


def test_nothing_reads_pickles_or_runs_shells() -> None:
    banned = {"pickle", "dill", "cloudpickle", "torch.load", "yaml.load", "eval", "exec", "os.system"}
    for name, tree in MODULES.items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert (calls | imports(tree)) & banned == set(), name
        shells = [k for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords if k.arg == "shell"]
        assert shells == [], name
