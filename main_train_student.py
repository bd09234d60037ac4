"""Train students: `python main_train_student.py --opt options/<file>.json [more files] [--set key=value ...]`.

The files are run one after another; running a file again continues where its task stopped. For several GPUs or
processes: `torchrun --nproc_per_node=N main_train_student.py --opt ...`.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from utils.process.errors import exit_on_user_error
from utils.process.interrupt import Interrupt
from utils.process.jobs import run_jobs
from utils.process.launch import add_launch_flags, check_launch

REPORTS = Path("report")

if TYPE_CHECKING:
    from data.batches import Crops
    from data.select_dataset import TestImages
    from models.model_plain import ModelPlain
    from utils.options.schema import Options


def main() -> None:
    """Check every file before the first is run: nobody wants to learn of a typo in the third after two days."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opt", type=Path, nargs="+", action="extend", required=True, help="option files")
    parser.add_argument(
        "--profile", type=int, metavar="N", help="do not train: tell where the time of N iterations goes, per file"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], metavar="N", help="run each file once per seed")
    parser.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="KEY=V,V", help="run each file once per combination"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="run N tasks at once, each with one GPU")
    add_launch_flags(parser)
    arguments = parser.parse_args()
    if arguments.profile is not None and arguments.profile < 1:
        parser.error(f"--profile {arguments.profile} should be at least 1")
    if arguments.jobs < 1 or (arguments.jobs > 1 and arguments.profile):
        parser.error(f"--jobs {arguments.jobs} should be at least 1, and 1 with --profile")
    with exit_on_user_error(), Interrupt() as interrupt:
        check_launch(arguments)
        # Within, since even these may fail where memory is limited.
        from utils.runs.inputs import load_all
        from utils.runs.variants import variants

        experiments = load_all(arguments.opt, arguments.set, variants(arguments.seeds, arguments.grid))
        if arguments.jobs > 1:
            train_at_once(experiments, jobs=arguments.jobs)
        else:
            train(experiments, interrupt=interrupt, profile=arguments.profile)
        if (arguments.seeds or arguments.grid) and not arguments.profile:
            report(experiments)


def train_at_once(experiments: "Sequence[Options]", *, jobs: int) -> None:
    """Train several experiments at a time, each in a process of its own with a GPU of its own.

    Raises:
        UserError: as `run_jobs`.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {options.task: Path(folder, f"{options.task}.json") for options in experiments}
        for options in experiments:
            options.save(files[options.task])
        commands = {task: [sys.executable, __file__, "--opt", str(file)] for task, file in files.items()}
        run_jobs(commands, at_once=jobs, folder=Path(experiments[0].path.root) / "output")


def report(experiments: "Sequence[Options]") -> None:
    """Report the experiments together: the page and, printed, its tables."""
    from utils.process import dist
    from utils.report import page
    from utils.report.tasks import read_methods

    if dist.is_main():
        folder = REPORTS / experiments[0].task
        tables = page.write(read_methods([options.task_folder for options in experiments]), folder)
        sys.stdout.write(f"{tables}\nThe page is {folder / 'index.html'}.\n")


def train(experiments: "Sequence[Options]", *, interrupt: Interrupt, profile: int | None) -> None:
    """Train the experiments one after another, or profile some iterations of each."""
    # Only now: PyTorch takes seconds to import, and an option file with a typo should not have to wait for it.
    from data.folders.check import check_experiments
    from data.select_dataset import define_crops, define_tests
    from models.model_plain import ModelPlain, check_networks
    from utils.process import dist
    from utils.process.machine import keep_freed_memory
    from utils.process.terminal import log_to_terminal
    from utils.runs.lock import task_lock

    keep_freed_memory()
    with dist.processes() as device:
        log_to_terminal(quiet=not dist.is_main())
        for options in experiments:
            check_networks(options)
        check_experiments(experiments)
        data = [(define_crops(options), define_tests(options)) for options in experiments]
        for options, (crops, tests) in zip(experiments, data, strict=True):
            model = ModelPlain(options, device=device)
            with task_lock(options.task_folder) if dist.is_main() else nullcontext():
                run(model, crops, tests, interrupt=interrupt, profile=profile)
            dist.barrier()  # the teacher of the next file may be what the main process has just saved


def run(
    model: "ModelPlain", crops: "Crops", tests: "Mapping[str, TestImages]", *, interrupt: Interrupt, profile: int | None
) -> None:
    """Train one experiment from where its task stopped to its end, or profile some iterations."""
    from data.batches import training_batches
    from data.dataset_sr import SRCrops, define_taught
    from models.inspect.profiling import profile_steps
    from models.resume import resume
    from models.training import Training
    from utils.process import dist

    options = model.options
    resume(model)
    # Processes share gradients, not weights: those must be equal from the start.
    dist.from_main(chain.from_iterable(part.parameters() for part in model.parts().values()))
    if options.train.teacher == "stored" and model.objective.compares_images:
        assert isinstance(crops, SRCrops)  # the options have been checked
        crops.taught = define_taught(crops.images, options, model.teacher_restore(), model.device)
    first_step = 0 if profile else model.step  # a finished task can be profiled, too
    with closing(training_batches(crops, options, first_step=first_step, device=model.device)) as batches:
        if profile:
            profile_steps(model, batches, steps=profile)
        else:
            Training(model, batches=batches, tests=tests, n_images=len(crops), interrupt=interrupt).run()


if __name__ == "__main__":
    main()
