"""Every command of the README and the documents runs as it is written, with toy values behind it."""

import re
import runpy
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.folders.derived import make_bicubic_lr
from models.select_network import define_teacher
from tests.conftest import ROOT, make_image, toy_options, write_images
from tests.golden.fill import fill_
from utils.imaging.io import write_image
from utils.options.schema import Options
from utils.weights import read_weights, serialized

DOCUMENTS = ("README.md", "docs/training.md", "docs/distillation.md", "docs/testing.md", "model_zoo/README.md")
STUDENT = "model_zoo/swinir_student_x4/swinir_student_x4.safetensors"
OFFICIAL = "model_zoo/001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth"
LAST = "superresolution/swinir_student/models/1_E.pth"
# What a training command gets besides: one iteration of tiny networks on `my/images`.
TOY = (
    "train.total_iter=1 train.checkpoint_test=1 train.amp=no train.compile=false datasets.train.H_size=32 "
    "datasets.train.dataloader_batch_size=4 datasets.train.dataloader_num_workers=0"
)
IMAGES = (
    "datasets.train.dataroot_H=my/images datasets.train.dataroot_L=null datasets.test.dataroot_H=my/images "
    "datasets.test.dataroot_L=null datasets.test_div2k=null netG.depths=[1,1,1,1] netG.img_size=8 netG.embed_dim=12 "
    "netG.upsampler=pixelshuffledirect"
)
SWINIR = (
    "netTeacher.depths=[1,1,1,1,1,1] netTeacher.img_size=8 netTeacher.embed_dim=24 "
    "netTeacher.upsampler=pixelshuffledirect"
)
SPANDREL = "netTeacher.features=[] train.distillation_type=response"
OPTIONAL = re.compile(r"\[(?:more files|--[^\]]*)\]")  # what a document puts in brackets
ELSEWHERE = {
    "make": "CI calls it",
    "source": "the shell's",
    "pip": "of others",
    "unzip": "of others",
    "tensorboard": "of others",
    "sbatch": "the scripts have a test below",
    "torchrun": "tests/test_distributed.py; here its option files are run by one process",
    "python main_train_student.py --opt options/student/": "it takes hours; tests/test_options.py loads the files",
    "python -m data.download": "tests/test_data_download.py",
    "python -m model_zoo.download": "tests/test_model_zoo_download.py",
}


def commands() -> Iterator[tuple[str, str]]:
    """Each command of the documents' blocks of code: where it stands, and the command in one line."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        blocks = [block for language, block in fenced if language in {"", "sh"}]
        blocks += re.findall(r"(?:^    (?:python|torchrun).*\n)+", text, re.MULTILINE)
        for block in blocks:
            for line in block.replace("\\\n", " ").splitlines():
                command = " ".join(OPTIONAL.sub("", re.sub(r"\s#.*", "", line)).split())
                if re.match(r"(python|torchrun|make|source|pip|unzip|sbatch|tensorboard)\b", command):
                    yield document, command


COMMANDS = list(dict.fromkeys(command for _, command in commands() if not command.startswith(tuple(ELSEWHERE))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's folder as the documents assume it, with toy images, and teachers that fit the toy networks."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("options", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "model_zoo", folder / "model_zoo")
    (written,) = re.findall(
        r"^```json\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(written.splitlines()) <= 16
    (folder / "my.json").write_text(written)
    for images in ("my/images", "my/test_images", "my/small_images"):
        write_images(folder / images)
    for number in range(2):
        write_image(folder / f"testsets/Set5/HR/{number}.png", make_image(48, 64, seed=number))
    make_bicubic_lr(folder / "testsets/Set5/HR", folder / "testsets/Set5/LR_bicubic/X4", scale=4)
    raw = toy_options(folder / "my/images", root=folder)
    raw["netTeacher"] = {"embed_dim": 24, "depths": [1] * 6, "img_size": 8, "upsampler": "pixelshuffledirect"}
    teacher = fill_(define_teacher(Options.model_validate(raw)), 1).state_dict()
    (folder / OFFICIAL).write_bytes(serialized(teacher))
    for name in ("model_zoo/DAT_light_x4.pth", "my_teacher.pth"):
        (folder / name).write_bytes(serialized(read_weights(ROOT / STUDENT)))
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The same folder, after the published experiments."""
    run_in(folder, f"python main_train_student.py --opt options/*.json --set {TOY} {IMAGES} {SWINIR}")
    return folder


def run_in(folder: Path, command: str) -> None:
    """Run a Python command of the documents in this process."""
    words = shlex.split(command)
    expanded = [str(path) for word in words for path in (sorted(folder.glob(word)) if "*" in word else [word])]
    program, *arguments = expanded[1:] if expanded[1] != "-m" else expanded[2:]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)  # other tests import commands
        patch.chdir(folder)
        patch.setattr(sys, "argv", [program, *arguments])
        if program.endswith(".py"):
            runpy.run_path(str(ROOT / program), run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)


def toy(command: str) -> str:
    """A command of the documents at toy size, with names that stand for something filled in."""
    command = command.replace("options/x.json", "options/train_swinir_student.json").replace("--set key=value ...", "")
    for checkpoint in ("CHECKPOINT", "superresolution/student/student_f/models/13000_E.pth"):
        command = command.replace(checkpoint, LAST)
    command = command.replace("100000_E.pth", "1_E.pth").replace("TASK ...", "swinir_student_distill_feature")
    if "main_train_student.py" in command:
        if "my.json" in command:  # a whole option file, with images and a student of its own
            own = ""
        elif "netTeacher.features" in command:
            own = f"{IMAGES} {SPANDREL}"
        else:
            own = f"{IMAGES} {SWINIR}"
        command = f"{command} {'' if '--set' in command else '--set'} {TOY} {own}"
    return command


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_runs(command: str, trained: Path) -> None:
    run_in(trained, toy(command))


def test_commands_that_are_not_run_here_are_known() -> None:
    """Lest a new command be taken for one of those."""
    assert {command.split()[0] for _, command in commands()} <= {"python", *ELSEWHERE}
    assert len(COMMANDS) >= 8
