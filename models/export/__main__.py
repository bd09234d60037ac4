"""A trained network for other programs: safetensors, ONNX, the published `.pth` layout and a model card.

`python -m models.export superresolution/TASK/models/100000_E.pth [--out FOLDER] [--half] [--push USER/NAME]`
"""

import argparse
import sys
from pathlib import Path

from utils.options.load import load_beside
from utils.process.errors import exit_on_user_error


def main(*, prog: str = "python -m models.export") -> None:
    """Export a checkpoint, and upload it where that is asked for."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="weights of a student (<iter>_E.pth) or of any SwinIR")
    parser.add_argument("--out", type=Path, help="folder of the files (default: export/<their name>)")
    parser.add_argument("--half", action="store_true", help="float16 in the safetensors file, which halves it")
    parser.add_argument("--push", metavar="REPO", help="upload the files to this repository of the Hugging Face hub")
    arguments = parser.parse_args()
    # Only now: PyTorch takes seconds to import, and help should not have to wait for it.
    from models.export.files import export, write
    from models.export.hub import hub_token, push

    with exit_on_user_error():
        token = hub_token() if arguments.push else ""
        checkpoint = arguments.checkpoint
        options = load_beside(checkpoint)
        name = f"{options.task}_x{options.scale}" if options else checkpoint.stem
        folder = arguments.out or Path("export") / name
        files = export(checkpoint, name, options, half=arguments.half)
        write(folder, files)
        sys.stdout.write(f"{', '.join(files)} are in {folder}\n")
        if arguments.push:
            sys.stdout.write(f"uploaded to {push(folder, list(files), repo=arguments.push, token=token)}\n")


if __name__ == "__main__":
    main()
