"""Embed a catalogue into an index that can be searched, or bring an index up to date.

    python search/index.py --run runs/deep_cmpl --data catalogue.csv --output runs/index

Started again it embeds only the products that are new or changed and takes out those that are gone; killed at any
moment, it goes on. Without --data it does so with the index's own catalogue and leaves what --add brought as it is.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from common.errors import InputError, run_script
from common.options import ROOT, CatalogueOptions, typed_data, with_recorded_data
from search.opening import Repeatable, flat

if TYPE_CHECKING:
    from search.store import Manifest

SEGMENT = 1024
"""Products embedded and written at a time: what a kill may cost."""


@dataclass(frozen=True)
class Options(CatalogueOptions):
    run: Path | None = None
    """Run folder that train.py wrote (None: that of the index, or runs/deep_cmpl in the repository)."""
    output: Path = tyro.MISSING
    """Folder of the index."""
    add: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep the products of the index that --data does not hold: it is an addition, not the whole catalogue. Calls
    without --data leave what it brought as it is."""
    remove: Repeatable = ()
    """Ids of products to take out of the index; nothing is embedded then."""
    engine: Literal["auto", "exact", "hnsw"] | None = None
    """How images are searched: exact compares with all, hnsw follows a graph and may miss some (under conditions
    it compares, too), auto is exact up to 100,000 images (None: what was given before, first of all auto)."""

    qdrant: str | None = None
    """URL of a Qdrant server that the index is sent to as well, for search/query.py --qdrant."""
    collection: str | None = None
    """With --qdrant: name of the collection (None: that of the index's folder)."""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    # imported only now, so that --help and a mistyped option answer at once
    from common.files import remove_leftovers
    from search.store import LOCK, MANIFEST, writing

    folder = options.output.expanduser()
    remove_leftovers(folder)
    if not (folder / MANIFEST).is_file():
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {LOCK}):
            raise InputError(f"{folder}: not empty and no index, so it stays as it is; "
                             "name another folder with --output")  # fmt: skip
        if flat(options.remove):
            raise InputError(f"{folder}: no index there, nothing to --remove from")
    with writing(folder):
        write(folder, options)
    print(f"index: {folder}")


def write(folder: Path, options: Options) -> None:
    """Write what the options ask for into the index, and to a server where they name one."""
    from search.store import MANIFEST, compact, read_manifest

    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    products = set(flat(options.remove))
    manifest = remove_named(folder, manifest, products) if products else bring_up_to_date(folder, manifest, options)
    manifest = build_engine(folder, compact(folder, manifest), options.engine)
    if options.qdrant is not None:
        from search.served import answering, connect, upload

        client = connect(options.qdrant)
        with answering(client):
            upload(client, folder, manifest, options.collection or folder.resolve().name)


def remove_named(folder: Path, manifest: "Manifest", products: set[str]) -> "Manifest":
    """Take products out of the index.

    Raises:
        InputError: one of them is not there.
    """
    from search.store import live_products, remove_products

    unknown = sorted(products - live_products(folder, manifest).keys())
    if unknown:
        raise InputError(f"--remove: {len(unknown)} of these products are not in the index, {unknown[0]} is the first")
    print(f"removed: {len(products):,} products")
    return remove_products(folder, manifest, products)


def bring_up_to_date(folder: Path, manifest: "Manifest | None", options: Options) -> "Manifest":
    """Embed what the index lacks of the catalogue, and take out what the catalogue lacks.

    Raises:
        InputError: the catalogue or the run cannot be used, or the index is of another run.
    """
    import numpy as np
    from tqdm import tqdm

    from common.batches import load_data
    from data.sample import make_sample
    from search.build import digests_of, segment_of, threshold_of
    from search.encoder import Encoder
    from search.store import Manifest, add_segment, live_products, remove_dead_segments, remove_products, write_manifest

    run = options.run or (Path(manifest.run) if manifest else ROOT / "runs" / "deep_cmpl")
    encoder = Encoder(run.expanduser(), options.device)
    if manifest is not None and manifest.model != encoder.identity:
        raise InputError(f"{folder}: an index of another run or of other weights than {encoder.run}; "
                         "name another folder with --output")  # fmt: skip
    named = with_recorded_data(options, {"data": manifest.data} if manifest else encoder.config)
    data = load_data(named, encoder.image_size, make_sample)
    typed = typed_data(named)
    source = {"path": str(data.catalogue.path), "fingerprint": data.catalogue.fingerprint, "options": typed}
    manifest = manifest or Manifest("", {}, {})
    source = manifest.data if options.add and manifest.data else source
    digests, known = digests_of(data), live_products(folder, manifest)
    added = set(manifest.added) & known.keys()
    if options.data is None:  # the index's own catalogue has no say about what came from others
        digests = {product: digest for product, digest in digests.items() if product not in added}
    elif not options.add:
        added = set()
    else:
        own = typed["data"] == source["options"]["data"]
        added = added - digests.keys() if own else added | digests.keys()
    manifest = replace(
        manifest, run=str(encoder.run.resolve()), model=encoder.identity, data=source, added=sorted(added)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)  # before all else: by it a later call knows the folder for its own
    remove_dead_segments(folder, manifest)
    new = [product for product, digest in digests.items() if known.get(product) != digest]
    gone = set() if options.add else known.keys() - digests.keys() - added
    changed = sum(product in known for product in new)
    stay = f"; {len(added):,} that --add brought stay as they are" if added and options.data is None else ""
    print(f"index: {len(known):,} products before; {len(new) - changed:,} new, {changed:,} changed, {len(gone):,} gone"
          + stay)  # fmt: skip
    manifest = remove_products(folder, manifest, set(gone))
    rows = data.catalogue.rows
    rows_of = rows.groupby("product", sort=False, observed=True).indices
    with tqdm(total=len(new), desc="embedding products", unit="product") as bar:
        for start in range(0, len(new), SEGMENT):
            some = new[start : start + SEGMENT]
            which = np.concatenate([rows_of[product] for product in some])
            manifest = add_segment(folder, manifest, segment_of(rows.iloc[which], data, encoder, digests))
            bar.update(len(some))
    if manifest.threshold is None or (new and not options.add):
        manifest = replace(manifest, threshold=threshold_of(data, encoder))
    write_manifest(folder, manifest)
    return manifest


def build_engine(folder: Path, manifest: "Manifest", engine: str | None) -> "Manifest":
    """Build the graph where one is wanted, and say what it misses."""
    from search.neighbours import Neighbours, chosen
    from search.store import read_all, write_manifest

    everything = read_all(folder, manifest)
    engine = engine or manifest.engine["asked"]
    kind = chosen(engine, len(everything.image_emb))
    print(f"engine: {kind}, {len(everything.products):,} products, {len(everything.image_emb):,} images")
    content = manifest.content() if kind == "hnsw" else ""
    if kind == "hnsw" and manifest.engine["content"] != content:
        print("building the graph")
        graph, exact = Neighbours(everything.image_emb, "hnsw"), Neighbours(everything.image_emb)
        captions = everything.text_emb[:: max(1, len(everything.text_emb) // 500)]
        share = graph.recall(captions, exact)
        nearest = min(10, graph.count)
        print(f"the graph finds {share:.1%} of the {nearest} nearest images of {len(captions):,} captions")
        graph.write(folder)
    manifest = replace(manifest, engine={"asked": engine, "kind": kind, "content": content})
    write_manifest(folder, manifest)
    return manifest


if __name__ == "__main__":
    run_script(main)
