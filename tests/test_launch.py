"""The command line as its user meets it: real processes, one clear line for each mistake, and nothing left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.patience import until
from tuning import study_file
from tuning.classifier import Format
from tuning.prepare import prepare
from tuning.spec import StudySpec

ROOT = Path(__file__).parent.parent


def launch(*arguments: str, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "tuning.launch", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The study.json of a study of resnet20 with all defaults, its folder written as PLACE."""
    folder = tmp_path_factory.mktemp("started")
    with contextlib.chdir(folder):
        prepared = prepare(StudySpec(model="resnet20", name="started"))
        prepared.folder.mkdir(parents=True)
        study_file.write(prepared, {prepared.spec.model: (Format(), {})})
        return (prepared.folder / "study.json").read_text().replace(str(folder), "PLACE")


@pytest.fixture
def place(tmp_path: Path, started: str) -> Path:
    """A folder with a started study, a name taken, broken images, a lone class, bad YAML files, a damaged study."""
    (tmp_path / "results" / "taken").mkdir(parents=True)
    (tmp_path / "results" / "taken" / "study.json").write_text("{}")
    (tmp_path / "results" / "damaged").mkdir()
    (tmp_path / "results" / "damaged" / "study.json").write_text('{"spec"')
    (tmp_path / "results" / "started").mkdir()
    (tmp_path / "results" / "started" / "study.json").write_text(started.replace("PLACE", str(tmp_path)))
    (tmp_path / "space.yaml").write_text("lr: 0.1\nlrr: 1\n")
    (tmp_path / "levels.yaml").write_text("model: resnet20\nlevels: {none: {}, some: {mixup: 0.2}}\n")
    (tmp_path / "wrong.yaml").write_text("model: resnet20\nlevels: {none: {}, some: {lrr: 1}}\n")
    (tmp_path / "option.yaml").write_text("model: resnet20\nlevels: {plain: {}, deep: {se_ratio: 8}}\n")
    for name in ("cat", "dog"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "lone" / "cat").mkdir(parents=True, exist_ok=True)
        for index in range(3):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "broken" / name / f"{index}.png")
    (tmp_path / "broken" / "cat" / "text.jpg").write_text("no image")
    (tmp_path / "file").write_text("")
    return tmp_path


MISTAKES = [
    ([], 2, "--model is required, such as --model resnet18; python -m models lists all"),
    (["--space", "space.yaml"], 2, "--model is required with space.yaml"),
    (["--model", "alexnet", "--set", "image_size=32"], 2, "alexnet needs images of at least 63 px, got 32: take "),
    (["--model", "vit_b_16", "--set", "image_size=40"], 2, "a multiple of 16 px, got 40"),
    (["--model", "timm:resnet81"], 2, "timm has no model 'resnet81'; did you mean timm:resnet"),
    (["--model", "resnet20", "--set", "seeds=3"], 2, "--set seeds is for one-factor studies"),
    (["--space", "levels.yaml", "--trials", "3"], 2, "--trials does not go with levels.yaml, which trains each level"),
    (["--space", "levels.yaml", "--set", "sampler=random"], 2, "--set sampler is for searches"),
    (["--space", "levels.yaml", "--set", "lr=0.1:0.2"], 2, "--set lr: levels.yaml compares levels"),
    (["--space", "levels.yaml", "--set", "mixup=0.1"], 2, "--set mixup: levels.yaml varies it itself, in some"),
    (["--space", "levels.yaml", "--model", "resnet20", "--model", "resnet32"], 2, "levels.yaml takes one --model"),
    (["--space", "wrong.yaml"], 2, "wrong.yaml, line 2: unknown setting 'lrr'"),
    (["--space", "option.yaml"], 2, "level 'deep': resnet20 has no option se_ratio"),
    (["--model", "efficentnet_b0"], 2, "unknown model 'efficentnet_b0'; did you mean efficientnet_b0?"),
    (["--modle", "resnet20"], 2, "unrecognized arguments: --modle resnet20"),
    (["--model", "resnet20", "--colour", "red"], 2, "unrecognized arguments: --colour red"),
    (["--model", "resnet20", "--model", "resnet20"], 2, "--model names an architecture twice"),
    (["--model", "resnet20", "--model", "resnet32", "--trials", "1"], 2, "trials must be at least 2, the published"),
    (["--model", "resnet20", "--model", "se_resnet20", "--set", "dropout=0.1"], 2, "resnet20 has no option dropout"),
    (["--model", "resnet20", "--dataset", "digit"], 2, "unknown data set 'digit', and no folder or .csv file of that"),
    (["--model", "resnet20", "--dataset", "lone"], 2, "needs at least two class folders with images, found only cat"),
    (["--model", "resnet20", "--dataset", "broken"], 2, "broken/cat/text.jpg is no JPEG, PNG, BMP, WEBP, GIF or"),
    (["--model", "resnet20", "--trials", "0"], 2, "trials must be a whole number from 1 to 100,000, got 0"),
    (["--model", "resnet20", "--trials", "ten"], 2, "--trials: must be a whole number such as 40, or +40, got 'ten'"),
    (["--model", "resnet20", "--epochs", "-3"], 2, "epochs must be a whole number from 1 to 100,000, got -3"),
    (["--model", "resnet20", "--seed", "-1"], 2, "seed must be a whole number from 0"),
    (["--model", "resnet20", "--time-budget", "soon"], 2, "must be a time such as 90, 30m or 2h, got 'soon'"),
    (["--model", "resnet20", "--name", "a b"], 2, "name must be letters, digits"),
    (["--model", "resnet20", "--name", "taken"], 2, "there is a study 'taken' in"),
    (["--model", "resnet20", "--finals", "3"], 2, "finals must be KxS"),
    (["--model", "resnet20", "--set", "lr"], 2, "--set lr: write KEY=VALUE"),
    (["--model", "resnet20", "--set", "lrr=1"], 2, "--set lrr: there is no such field or hyperparameter"),
    (["--model", "resnet20", "--set", "lr=nan"], 2, "lr must be a number above 0 to 100, got nan"),
    (["--model", "resnet20", "--set", "lr=0.3:0.1"], 2, "lr needs low below high"),
    (["--model", "resnet20", "--set", "image_size=big"], 2, "--set image_size must be a whole number, got 'big'"),
    (["--model", "resnet20", "--set", "spare_noise=1"], 2, "--set spare_noise must be true or false, got '1'"),
    (["--model", "resnet20", "--set", "image_size=4"], 2, "resnet20 needs images of at least 8 px, got 4"),
    (["--model", "resnet20", "--set", "dropout=0.1"], 2, "resnet20 has no option dropout; it has: norm"),
    (["--model", "resnet20", "--set", "batch_size=4096"], 2, "batch_size goes up to 4096, but digits has 1295"),
    (["--model", "resnet20", "--set", "precision=fp8"], 2, "precision must be one of auto, float32, bfloat16"),
    (["--model", "resnet20", "--set", "objectives=latency_ms"], 2, "objectives must begin with val_accuracy"),
    (["--model", "resnet20", "--set", "constraints=latency_ms>5"], 2, "latency_ms is better the smaller; write"),
    (["--model", "resnet20", "--set", "constraints=gpu_memory_mb<9", "--gpus-per-trial", "0"], 7, "where trials have"),
    (["--space", "levels.yaml", "--set", "constraints=latency_ms<5"], 2, "--set constraints is for searches"),
    (["--model", "resnet20", "--space", "space.yaml"], 2, "space.yaml, line 2: unknown hyperparameter 'lrr'"),
    (["--model", "resnet20", "--space", "nowhere.yaml"], 2, "there is no file nowhere.yaml; one-factor studies"),
    (["--model", "resnet20", "--address", "nowhere"], 2, "address must be local, auto, HOST:PORT or ray://HOST:PORT"),
    (["--model", "resnet20", "--address", "ray://head"], 2, "or ray://HOST:PORT, got 'ray://head'"),
    (["--model", "resnet20", "--address", "ray://127.0.0.1:1"], 3, "no Ray cluster answers at ray://127.0.0.1:1 ("),
    (["--model", "resnet20", "--tracking-uri", "file:./mlruns"], 2, "tracking_uri must be sqlite:///FILE.db or http"),
    (["--model", "resnet20", "--tracking-uri", "sqlite:///no/such/x.db"], 2, "names no file in an existing folder"),
    (["--model", "resnet20", "--results-dir", "file"], 2, "cannot write to"),
    (["--resume", "nowhere"], 2, "no study to resume in"),
    (["--resume", "started", "--epochs", "27", "--model", "resnet32"], 2, "and the search space alone, not model: "
     "resnet20 in the study, resnet32 asked for; epochs: 9 in the study, 27 asked for; start another study for that"),
    (["--model", "resnet20", "--name", "started", "--epochs", "27", "--set", "lr=0.1"], 2, "differs (epochs: 9 in "
     "the study, 27 asked for; lr: 0.01 .. 0.5, log in the study, always 0.1 asked for); go on with --resume started"),
    (["--model", "resnet20", "--trials", "+5"], 2, "trials +5 adds to a study that was started; give --resume NAME"),
    (["--model", "resnet20", "--set", "gpu_hours=1"], 7, "gpu_hours counts GPUs, but there are none; take"),
    (["--resume", "damaged"], 6, "study.json is damaged"),
    (["--model", "resnet20", "--cpus-per-trial", "1000"], 7, "a trial asks for 1000 CPUs, 0 GPUs on one node, all"),
    (["--model", "resnet20", "--gpus-per-trial", "1.5"], 2, "gpus_per_trial above 1 must be whole, such as 2, got 1.5"),
    (["--model", "resnet20", "--gpus-per-trial", "64"], 7, "a trial asks for 1 CPU, 64 GPUs on one node"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "line"), MISTAKES, ids=[" ".join(m[0]) or "nothing" for m in MISTAKES])
def test_a_mistake_gets_one_line_and_leaves_nothing_behind(
    place: Path, arguments: list[str], code: int, line: str
) -> None:
    before = files(place)
    done = launch(*arguments, cwd=place)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert files(place) == before


def test_a_server_that_does_not_answer_is_named(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = launch("--model", "resnet20", "--tracking-uri", f"http://127.0.0.1:{port}", cwd=place)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"no MLflow server answers at 127.0.0.1:{port}" in done.stderr


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = launch("--model", "resnet20", "--address", f"127.0.0.1:{port}", "--name", "x", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in done.stderr
    assert files(tmp_path) == []


def test_help_and_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    """The reason why they answer in well under a second; the seconds themselves are in benchmarks/overhead.py."""
    for arguments in (["--help"], ["--model", "nonsense"], ["--model", "resnet20", "--set", "lr=2:1"]):
        code = (
            "import sys\nfrom tuning import launch\n"
            f"try: launch.main({arguments!r})\nexcept SystemExit: pass\n"
            "print('HEAVY', sorted({'torch', 'ray', 'mlflow', 'torchvision', 'sklearn'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_dry_run_shows_everything_and_starts_nothing(tmp_path: Path) -> None:
    done = launch(
        "--model",
        "efficientnet_b0",
        "--epochs",
        "27",
        "--set",
        "lr=0.001:0.01:log",
        "--name",
        "plan",
        "--dry-run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "0.001 .. 0.01, log", "crop_flip", "digits: 1,295 to train, 143 to validate", "compared at epochs 3, 9, 27",
        "trials at once", f"{tmp_path}/results/plan", f"sqlite:///{tmp_path}/mlflow.db", "nothing was started",
    ):  # fmt: skip
        assert part in done.stdout
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_signal_before_the_search_leaves_the_name_free(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tuning.launch", "--model", "resnet20", "--name", "early"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "results" / "early" / "log.txt").exists, 60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "error: interrupted by SIGINT; nothing was searched yet, start it again\n"
    assert launch("--model", "resnet20", "--name", "early", "--dry-run", cwd=tmp_path).returncode == 0


def _heed_interrupts() -> None:
    """A shell has the jobs that it starts in the background ignore Ctrl-C, and all that these start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_signal_while_images_are_decoded_ends_it_in_one_line(tmp_path: Path) -> None:
    """Thousands of links to one image that takes long."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(1000):
            (tmp_path / "pets" / name / f"{index}.png").symlink_to(tmp_path / "noise.png")
    command = [sys.executable, "-m", "tuning.launch", "--model", "resnet20", "--dataset", "pets"]
    cache = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    )
    until(lambda: list(cache.glob("*/*/*/*/pixels")), 60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == "error: interrupted before anything was searched; start it again\n"


@pytest.mark.long
@pytest.mark.timeout(400)  # three studies
@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143)])
def test_a_signal_ends_a_study_that_can_go_on(tmp_path: Path, signum: int, code: int) -> None:
    arguments = ["--model", "resnet20", "--trials", "3", "--epochs", "3", "--name", "cut"]
    arguments += ["--set", "precision=float32", "--set", "memory_format=contiguous", "--set", "train_images=300"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tuning.launch", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "results" / "cut" / "journal.jsonl"
    while not journal.exists() or '"event":"report"' not in journal.read_text():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signum)
    sent = time.monotonic()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code
    assert time.monotonic() - sent < 30  # the promise is 10 s; a busy machine may take longer
    assert stderr.endswith("go on with: python -m tuning.launch --resume cut\n")
    assert stderr.count("\n") == 1
    done = launch("--resume", "cut", cwd=tmp_path, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "trials      3:" in done.stdout
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs(["1"], "tags.study = 'cut'")
    assert sorted(run.data.tags.get("trial", "study") for run in runs) == ["0", "1", "2", "study"]
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
    for run in runs:
        if "trial" in run.data.tags:
            epochs = [metric.step for metric in client.get_metric_history(run.info.run_id, "val_accuracy")]
            assert epochs == list(range(1, len(epochs) + 1)), "each epoch once"
