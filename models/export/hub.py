"""Uploading an export to the Hugging Face hub."""

from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError

from utils.process.errors import UserError


def hub_token() -> str:
    """The user's token of the Hugging Face hub.

    Raises:
        UserError: there is none.
    """
    token = get_token()
    if token is None:
        raise UserError("--push: there is no Hugging Face token; run `hf auth login`, or set HF_TOKEN")
    return token


def push(folder: Path, names: list[str], *, repo: str, token: str) -> str:
    """Upload files of a folder to a repository on the Hugging Face hub, made where there is none; returns its address.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    hub = HfApi(token=token)
    try:
        address = hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=names)
    except (HTTPError, HFValidationError) as error:
        raise UserError(f"--push {repo}: {' '.join(str(error).split())}") from error
    return str(address)
