"""Data sets of parquet files from the Hugging Face hub."""

import hashlib
import json
from glob import escape
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

from common.errors import InputError
from common.files import is_disk_full, remove_leftovers, write_atomically

SOURCE = "source.json"
PINNED = {
    "ashraq/fashion-product-images-small": "3859c76db2f6f3d3b9a3863345e3ccdbff75879d",
    "Marqo/KAGL": "5146654f23da1f808a86370320cc8128c928f6f9",
}
"""The commits of the data sets that data/README.md names: what is measured on them can be measured again."""


def fetch(name: str, revision: str | None, folder: Path) -> None:
    """Download the parquet files of a data set at one commit, and check them against what the hub says of them.

    A second call goes on with the commit of the first. HF_ENDPOINT names another hub.

    Args:
        name: owner and name.
        revision: branch, tag or commit; None for the one in `PINNED`, or the main branch of any other data set.
        folder: to write.

    Raises:
        InputError: there is no such data set or revision, no hub can be reached, the folder holds something else, or
            a file is not what the hub has.
    """
    kept = folder / SOURCE
    remove_leftovers(folder)
    if kept.is_file():
        source = read_source(kept)
        if source["name"] != name or revision not in (None, source["asked"], source["commit"]):
            raise InputError(f"{folder}: holds {source['name']} at {source['commit']}; name another --output")
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty and no download of this script; name another --output")
    else:
        source = {"asked": revision or PINNED.get(name, "main")}
    try:
        asked = source.get("commit", source["asked"])
        info = HfApi().dataset_info(name, revision=asked, files_metadata=True)
        files = {entry.rfilename: entry for entry in info.siblings if entry.rfilename.endswith(".parquet")}
        if not files:
            raise InputError(f"{name}: no parquet file in this data set")
        write_atomically_in(folder, {"name": name, "asked": source["asked"], "commit": info.sha})
        print(f"{name} at {info.sha}: {len(files)} files, {sum(e.size or 0 for e in files.values()) / 1e6:,.1f} MB")
        snapshot_download(
            name, repo_type="dataset", revision=info.sha, local_dir=folder, allow_patterns=list(map(escape, files))
        )
    except InputError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise InputError(f"{name}: no such data set or revision on the hub ({first_line(error)})") from None
    except (HTTPError, OSError) as error:  # OSError: of a file that is not as long as it should be, too
        if is_disk_full(error):
            raise
        raise InputError(f"{name}: the hub could not be reached or broke off ({first_line(error)}); "
                         "start again to go on") from None  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{name}: what answered is no hub ({first_line(error)}); is HF_ENDPOINT right, "
                         "or does the network want a login?") from None  # fmt: skip
    for file, entry in files.items():
        verify(folder / file, entry)
    folders = sorted({(folder / file).parent for file in files})
    print(f"checked; use it with --data {' or '.join(map(str, folders))}")


def write_atomically_in(folder: Path, source: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SOURCE, json.dumps(source))


def read_source(file: Path) -> dict[str, str]:
    """What was fetched into a folder before.

    Raises:
        InputError: the file is not of this script.
    """
    try:
        source = json.loads(file.read_text(encoding="utf-8"))
        return {key: str(source[key]) for key in ("name", "asked", "commit")}
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{file}: not of a download of this script; name another --output") from None


def verify(file: Path, entry: object) -> None:
    """Raise an `InputError` if a file has another content than the hub's."""
    with file.open("rb") as opened:
        if entry.lfs:
            expected, found = entry.lfs.sha256, hashlib.file_digest(opened, "sha256").hexdigest()
        else:  # git's own hash, of a header and the content
            header = b"blob %d\0" % file.stat().st_size
            expected, found = entry.blob_id, hashlib.sha1(header + opened.read()).hexdigest()
    if found != expected:
        file.unlink()
        raise InputError(f"{file}: not the file that the hub has, so it was removed; start again to fetch it anew")


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
