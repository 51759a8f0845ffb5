"""data/unpack.py and prepare.py unpack: what an archive may hold, by mistake or on purpose, and what is said of it."""

import io
import os
import random
import re
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from catalogues import drawing, tiny_catalogue
from disks import fill
from tiny_runs import run_main

from common.catalogue import open_catalogue
from common.errors import InputError
from data import prepare
from data.unpack import SMALL, find_catalogue, unpack

ROOT = Path(__file__).resolve().parents[1]
COUNT = 12
KINDS = {".zip": None, ".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
Members = dict[str, bytes]


def members(folder: Path, prefix: str = "fashion/") -> Members:
    """A tiny catalogue in the Kaggle layout: name -> content."""
    tiny_catalogue(folder, COUNT, kind="kaggle")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {f"{prefix}{file.relative_to(folder)}": file.read_bytes() for file in files}


def pack(file: Path, content: Members, kind: str = ".zip") -> Path:
    """Write an archive; the folders have entries of their own, as most programs write them."""
    file = file.with_name(file.name + kind)
    if kind == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("fashion/", b"")
            for name, data in content.items():
                archive.writestr(name, data)
        return file
    with tarfile.open(file, KINDS[kind]) as archive:
        archive.addfile(entry("fashion", kind=tarfile.DIRTYPE))
        for name, data in content.items():
            archive.addfile(entry(name, len(data)), io.BytesIO(data))
    return file


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def contents(folder: Path) -> Members:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_packed_is_there_and_can_be_used(kind, tmp_path, monkeypatch, capsys):
    wanted, output = members(tmp_path / "made"), tmp_path / "out"
    archive = pack(tmp_path / "shop", wanted, kind)
    run_main(prepare.main, monkeypatch, "unpack", archive, "--output", output)
    out = capsys.readouterr().out
    assert contents(output) == wanted
    assert re.search(rf"shop{kind}: {len(wanted)} files, 0\.\d MB, in {output}\n", out)
    assert out.endswith(f"use it with --data {output / 'fashion'}\n") and "left out" not in out
    assert len(open_catalogue(output / "fashion").rows) == COUNT
    run_main(prepare.main, monkeypatch, "unpack", archive, "--output", output)
    assert f", {len(wanted)} of them were there already" in capsys.readouterr().out


@dataclass(frozen=True)
class Case:
    """Members that an archive has beside a good catalogue, and the line about them, or the error."""

    add: Callable[[zipfile.ZipFile | tarfile.TarFile], object]
    kind: str = ".zip"
    left_out: str = ""
    error: str = ""


def zipped(name: str, data: bytes = b"harm", mode: int = 0, encrypted: bool = False) -> Callable:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        info.flag_bits |= encrypted

    return add


def tarred(*entries: tarfile.TarInfo) -> Callable:
    def add(archive: tarfile.TarFile) -> None:
        for info in entries:
            archive.addfile(info, io.BytesIO(b"x" * info.size))

    return add


def zero_in_name() -> tarfile.TarInfo:
    info = entry("more.txt", 4)
    info.pax_headers = {"path": "more\0.txt"}
    return info


OUTSIDE = r"left out 1: its name leads out of the folder \({}\)"
NO_FILE = r"left out 1: a link or a device, not a file \({}\)"
CASES = {
    "up and out": Case(zipped("../harm.txt"), left_out=OUTSIDE.format(r"\.\./harm\.txt")),
    "up and out, deep inside": Case(zipped("fashion/../../harm.txt"), left_out=OUTSIDE.format(".*harm.txt")),
    "up and out, from Windows": Case(zipped("..\\harm.txt"), left_out=OUTSIDE.format(r"\.\./harm\.txt")),
    "absolute": Case(zipped("/harm.txt"), left_out=OUTSIDE.format("/harm.txt")),
    "absolute, of Windows": Case(zipped("C:\\harm.txt"), left_out=OUTSIDE.format("C:/harm.txt")),
    "link": Case(zipped("harm", b"/etc/passwd", stat.S_IFLNK | 0o777), left_out=NO_FILE.format("harm")),
    "with a password": Case(
        zipped("secret.txt", encrypted=True), left_out=r"left out 1: it needs a password \(secret.txt\)"
    ),
    "the same name again": Case(
        zipped("fashion/styles.csv"),
        left_out=r"left out 1: something else of this name is there, and stays \(fashion/styles.csv\)",
    ),
    "a file where a folder is": Case(
        zipped("fashion/images"), left_out=r"left out 1: something else of this name is there, and stays"
    ),
    "a folder where a file is": Case(
        zipped("fashion/styles.csv/harm.txt"),
        left_out=r"left out 1: it cannot be written \((File ex|Not a dir).*\)",
    ),
    "a name too long for a file": Case(
        zipped(300 * "a"), left_out=r"left out 1: it cannot be written \(File name too long\)"
    ),
    "no name": Case(zipped("."), left_out=r"left out 1: its name is none for a file \(\.\)"),
    "a folder that holds something": Case(zipped("photo.jpg/"), left_out=NO_FILE.format("photo.jpg/")),
    "a compression of Windows": Case(
        lambda archive: (zipped("more.txt")(archive), setattr(archive.filelist[-1], "compress_type", 9)),
        left_out=r"left out 1: it cannot be read \(.*compression.*\) \(more.txt\)",
    ),
    "a name that steers the terminal": Case(
        zipped("../\x1b[31m"), left_out=r"its name leads out of the folder \(\.\./\\x1b\[31m\)"
    ),
    "a name of 250 bytes": Case(zipped(f"fashion/images/{80 * chr(0x8863)}.txt")),
    "folders of Windows": Case(zipped("fashion\\images\\more.txt")),
    "decompression bomb": Case(
        zipped("fashion/zeros", bytes(2 * SMALL)), error=r"holds more than 100 times its own size, up to fashion/zeros"
    ),
    "tar, up and out": Case(tarred(entry("../harm.txt", 4)), ".tar", OUTSIDE.format(r"\.\./harm\.txt")),
    "tar, absolute": Case(tarred(entry("/harm.txt", 4)), ".tar.gz", OUTSIDE.format("/harm.txt")),
    "tar, link out": Case(tarred(entry("harm", 0, tarfile.SYMTYPE, "/etc/passwd")), ".tar", NO_FILE.format("harm")),
    "tar, a file through a link": Case(
        tarred(entry("way", 0, tarfile.SYMTYPE, ".."), entry("way/more.txt", 4)), ".tar", NO_FILE.format("way")
    ),
    "tar, hard link": Case(tarred(entry("harm", 0, tarfile.LNKTYPE, "/etc/passwd")), ".tar", NO_FILE.format("harm")),
    "tar, no name": Case(tarred(entry("./", 4)), ".tar", r"left out 1: its name is none for a file \(\./\)"),
    "tar, a zero in a name": Case(tarred(zero_in_name()), ".tar", r"left out 1: its name is none for a file \(more"),
    "tar, a device": Case(tarred(entry("null", 0, tarfile.CHRTYPE)), ".tar", NO_FILE.format("null")),
    "tar, a pipe": Case(tarred(entry("pipe", 0, tarfile.FIFOTYPE)), ".tar", NO_FILE.format("pipe")),
    "tar, decompression bomb": Case(
        tarred(entry("fashion/zeros", 2 * SMALL)), ".tar.gz", error="holds more than 100 times its own size"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_members_stay_in_the_archive(case, tmp_path, monkeypatch, capsys):
    wanted, output = members(tmp_path / "made"), tmp_path / "deep" / "out"
    archive = tmp_path / f"shop{case.kind}"
    opened = zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) if case.kind == ".zip" else None
    with opened or tarfile.open(archive, KINDS[case.kind]) as content:
        for name, data in wanted.items():
            if opened:
                content.writestr(name, data)
            else:
                content.addfile(entry(name, len(data)), io.BytesIO(data))
        case.add(content)
    if case.error:
        with pytest.raises(InputError, match=case.error):
            run_main(prepare.main, monkeypatch, "unpack", archive, "--output", output)
    else:
        run_main(prepare.main, monkeypatch, "unpack", archive, "--output", output)
        out = capsys.readouterr().out
        lines = [line for line in out.splitlines() if "left out" in line]
        assert len(lines) == bool(case.left_out), out
        assert not case.left_out or re.search(case.left_out, lines[0]), lines
    found = contents(output)
    assert {name: found.get(name) for name in wanted} == wanted
    assert set(found) - set(wanted) <= {
        "fashion/images/more.txt",
        "way/more.txt",
        f"fashion/images/{80 * chr(0x8863)}.txt",
    }
    assert not any(path.is_symlink() for path in output.rglob("*"))
    assert [path.name for path in output.parent.iterdir()] == ["out"], "nothing outside of the folder"


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_archive_is_told_and_a_file_is_whole_or_not_there(kind, tmp_path):
    """Cut off, or with bytes changed, anywhere: an InputError or no remark, never another error or half a file."""
    wanted = members(tmp_path / "made")
    whole = pack(tmp_path / "shop", wanted, kind).read_bytes()
    numbers, told = random.Random(0), 0
    for attempt in range(60):
        broken = bytearray(whole[: numbers.randrange(len(whole))] if attempt % 2 else whole)
        for _ in range(0 if attempt % 2 else numbers.choice([1, 8, 64])):
            broken[numbers.randrange(len(broken))] ^= numbers.randrange(1, 256)
        archive, output = tmp_path / f"{attempt}{kind}", tmp_path / f"out{attempt}"
        archive.write_bytes(broken)
        try:
            unpack(archive, output)
        except InputError as error:
            told += 1
            assert re.search("fetch it again, and rem|neither a .zip nor a .tar archive|100 times", str(error))
        assert not list(output.rglob("*.part*"))
        if attempt % 2 or kind == ".zip":  # only a zip has a checksum of each file
            found = contents(output)
            changed = [name for name in found if name in wanted and found[name] != wanted[name]]
            assert not changed
    assert told >= 30


def test_nothing_of_it_can_be_used(tmp_path, monkeypatch):
    text = tmp_path / "shop.zip"
    text.write_text("not an archive")
    with pytest.raises(InputError, match=r"shop\.zip: neither a \.zip nor a \.tar archive that can be read"):
        run_main(prepare.main, monkeypatch, "unpack", text, "--output", tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.zip: no such file; give the archive to unpack"):
        run_main(prepare.main, monkeypatch, "unpack", tmp_path / "none.zip", "--output", tmp_path / "out")
    empty = pack(tmp_path / "empty", {})
    with pytest.raises(InputError, match="nothing in it could be unpacked"):
        run_main(prepare.main, monkeypatch, "unpack", empty, "--output", tmp_path / "out")


def test_what_else_is_found_is_told(tmp_path, monkeypatch, capsys):
    inner = pack(tmp_path / "img", {"img/1.jpg": b"1"}).read_bytes()
    archive = pack(tmp_path / "inshop", {"InShop/Img/img.zip": inner, "InShop/README": b"read"})
    run_main(prepare.main, monkeypatch, "unpack", archive, "--output", tmp_path / "out")
    out = capsys.readouterr().out
    assert f"an archive in the archive: {tmp_path / 'out' / 'InShop' / 'Img' / 'img.zip'}; unpack it, too" in out
    assert "none of the layouts of data/README.md was found in it; is more to be unpacked?" in out


def test_what_is_there_stays(tmp_path, monkeypatch, capsys):
    wanted, output = members(tmp_path / "made"), tmp_path / "out"
    (output / "fashion").mkdir(parents=True)
    (output / "fashion" / "styles.csv").write_text("mine")
    (output / "notes.txt").write_text("mine, too")
    run_main(prepare.main, monkeypatch, "unpack", pack(tmp_path / "shop", wanted), "--output", output)
    assert "something else of this name is there, and stays (fashion/styles.csv)" in capsys.readouterr().out
    assert contents(output) == wanted | {"fashion/styles.csv": b"mine", "notes.txt": b"mine, too"}


def test_links_in_the_output_folder_are_not_replaced_and_not_followed_out_of_it(tmp_path, monkeypatch, capsys):
    output, away = tmp_path / "out", tmp_path / "away"
    (output / "fashion").mkdir(parents=True), away.mkdir()
    (output / "fashion" / "images").symlink_to(away)
    (output / "fashion" / "styles.csv").symlink_to(tmp_path / "not mounted")
    wanted = members(tmp_path / "made") | {"fashion/more.txt": b"more"}
    run_main(prepare.main, monkeypatch, "unpack", pack(tmp_path / "shop", wanted), "--output", output)
    out = capsys.readouterr().out
    assert f"left out {COUNT}: a link in the output folder leads out of it (fashion/images/1000.jpg; " in out
    assert "left out 1: something else of this name is there, and stays (fashion/styles.csv)" in out
    assert not list(away.iterdir()) and (output / "fashion" / "styles.csv").is_symlink()
    assert (output / "fashion" / "more.txt").read_bytes() == b"more"


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = pack(tmp_path / "img", {"img/1.jpg": b"1"}).read_bytes()
    wanted = {"Anno/list.json": b"[]", "Eval/list.txt": b"1", "Img/img.zip": inner}
    assert len(unpack(pack(tmp_path / "inshop", wanted, ".tar"), tmp_path / "out").written) == 3
    assert contents(tmp_path / "out") == wanted


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_archives_one_after_the_other_are_all_unpacked(kind, tmp_path):
    one, two = ({f"{name}.txt": name.encode() * 700} for name in ("one", "two"))
    both = tmp_path / f"both{kind}"
    both.write_bytes(
        b"".join(pack(tmp_path / name, some, kind).read_bytes() for name, some in (("1", one), ("2", two)))
    )
    unpack(both, tmp_path / "out")
    assert contents(tmp_path / "out") == one | two


def test_a_name_that_is_not_utf8_is_told_by_the_reader(tmp_path, monkeypatch, capsys):
    picture = drawing("red", "disc", "white")
    wanted = {
        "shop/caf\udce9.jpg": picture,
        "shop/caf\udce9.txt": b"a cafe",
        "shop/1.jpg": picture,
        "shop/1.txt": b"red",
    }
    with tarfile.open(tmp_path / "old.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in wanted.items():
            archive.addfile(entry(name, len(data)), io.BytesIO(data))
    run_main(prepare.main, monkeypatch, "unpack", tmp_path / "old.tar", "--output", tmp_path / "out")
    assert f"use it with --data {tmp_path / 'out' / 'shop'}" in capsys.readouterr().out
    catalogue = open_catalogue(tmp_path / "out" / "shop")
    assert catalogue.rows["caption"].tolist() == ["red"]
    assert catalogue.report.lines()[-1] == r"left out 1 row: its name is not UTF-8 (caf\udce9.jpg)"


@pytest.mark.parametrize("inside", ["shop/{}", "shop/{}/front", "{}"])
def test_images_with_texts_are_used_from_the_folder_that_holds_them(inside, tmp_path):
    wanted = {f"{inside.format(number)}.{kind}": b"x" for number in range(3) for kind in ("jpg", "txt")}
    done = unpack(pack(tmp_path / "shop", wanted), tmp_path / "out")
    expected = tmp_path / "out" / ("shop" if "shop" in inside else "")
    assert find_catalogue(done.written, tmp_path / "out") == expected


def test_a_workbook_beside_the_table_is_not_what_data_takes(tmp_path):
    done = unpack(pack(tmp_path / "shop", {"a.xlsx": b"PK\3\4", "b.csv": b"image,caption\n"}), tmp_path / "out")
    assert find_catalogue(done.written, tmp_path / "out") == tmp_path / "out" / "b.csv"


def command(archive: Path, output: Path) -> list[str]:
    return list(map(str, [sys.executable, ROOT / "data" / "prepare.py", "unpack", archive, "--output", output]))


def test_killed_at_any_point_it_goes_on(tmp_path):
    wanted = {f"fashion/images/{number}.txt": os.urandom(40_000) for number in range(2500)}
    archive, output = pack(tmp_path / "shop", wanted, ".tar"), tmp_path / "out"
    for enough in (5, 600, 1500):
        process = subprocess.Popen(command(archive, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        images = output / "fashion" / "images"
        while process.poll() is None and (not images.is_dir() or sum(1 for _ in images.iterdir()) < enough):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed before its end"
        for name, content in contents(output).items():
            assert ".part" in name or content == wanted[name]
    done = subprocess.run(command(archive, output), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and contents(output) == wanted, done.stderr


def test_a_full_disk(disk, tmp_path):
    wanted = {f"fashion/{number}.txt": os.urandom(40_000) for number in range(20)}
    archive = pack(tmp_path / "shop", wanted)
    ballast = fill(disk, 500_000)
    stopped = subprocess.run(command(archive, disk / "out"), capture_output=True, text=True, timeout=60)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert re.search(r"stopped: \S+txt: the disk is full, 0\.1 MB more are needed", stopped.stderr)
    there = contents(disk / "out")
    assert len(there) > 5 and all(wanted[name] == content for name, content in there.items())
    ballast.unlink()
    done = subprocess.run(command(archive, disk / "out"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and contents(disk / "out") == wanted
    assert f"{len(there)} of them were there already" in done.stdout
