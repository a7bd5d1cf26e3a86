"""Fetches a model from a Hugging Face hub by its id (owner/name), pinned to one commit and checked file by file.

HF_ENDPOINT and HF_TOKEN work as everywhere else. Neither pickles nor code are downloaded.
"""

from pathlib import Path

from models_backend.registry.contents import choose
from models_backend.registry.errors import ChecksumMismatch, NotReachable, UnknownModel
from models_backend.registry.manifest import digest
from models_backend.registry.progress import Progress, Watcher, weighing
from models_backend.registry.store import need_space

TIMEOUT = 20.0  # seconds that the hub has for its first answer


def fetch(id: str, folder: Path, home: Path, watch: Watcher, endpoint: str | None = None) -> tuple[str, str]:
    """Download the model into `folder`; return the commit and the licence that its page states ("" if none).

    Raises UnknownModel (no such model, or one that needs a token), RefusedFormat, NoSpace, ChecksumMismatch and
    NotReachable.
    """
    # huggingface_hub takes a second to import, so only a pull from the hub pays for it.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # the watcher is told instead
    watch(Progress(f"asking the hub for {id}"))
    try:
        facts = HfApi(endpoint=endpoint).model_info(id, files_metadata=True, timeout=TIMEOUT)
        files = {file.rfilename: file for file in facts.siblings or []}
        taken = choose(files, id)
        total = sum(files[name].size or 0 for name in taken)
        need_space(home, total)
        with weighing(folder, Progress(f"downloading {id}", 0, total), watch):
            snapshot_download(id, revision=facts.sha, local_dir=folder, allow_patterns=taken, endpoint=endpoint)
    except GatedRepoError:
        raise UnknownModel(
            f"{id} is on the hub, but only for accounts that accepted its terms: accept them there and set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise UnknownModel(f"{id} is not on the hub, or it is private: check the name, or set HF_TOKEN.") from None
    except (HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise  # a disk that is full or not writable is no fault of the network
        raise _not_reachable(id, error) from None
    except Exception as error:
        # The hub's HTTP library has changed before; its errors are told by their module, not by an import.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise
        raise _not_reachable(id, error) from None
    for name in taken:
        lfs = files[name].lfs
        if lfs is not None and digest(folder / name) != lfs.sha256:
            raise ChecksumMismatch(f"{name} of {id} arrived damaged: nothing was kept, pull again.")
    card = facts.card_data
    return str(facts.sha), str(card.get("license") or "") if card else ""


def _not_reachable(id: str, error: Exception) -> NotReachable:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return NotReachable(
        f"The hub could not give {id} ({reason[:200]}). Check the network, HF_ENDPOINT or a proxy, or bring the "
        "model's folder from elsewhere: pull PATH --as NAME"
    )
