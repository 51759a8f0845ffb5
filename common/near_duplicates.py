"""Images that show the same photograph although their files differ: saved again, resized, touched up.

A perceptual hash proposes pairs, the colours decide: products on white have much the same outline, and a hash of grey
values alone takes a blue shirt for a red one.
"""

from itertools import combinations

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from common.catalogue import Catalogue
from common.columns import first_equal, in_pieces
from common.files import kept_array
from common.hashing import digest
from common.images import THUMBNAIL, DecodedImages, open_images

HASH_DISTANCE = 4
"""Largest number of differing bits, of 64."""
COLOUR_DISTANCE = 4.0
"""Largest mean difference of colour (of 255) where one of the two is not white."""
WHITISH = 240
VERSION = 1
COMPARED_AT_ONCE = 2**12
SHARED_BANDS = 3


def photographs(catalogue: Catalogue, images: DecodedImages) -> np.ndarray:
    """(N,) what each image shows: equal numbers for equal files and, through any chain of them, near-duplicates.

    Computed once and kept in the cache.
    """

    def fill(shown: np.ndarray) -> None:
        number, first = first_of_each_file(images.digests)
        pairs = near_duplicates(catalogue, images)
        graph = coo_array((np.ones(len(pairs)), number[pairs.T]), shape=(len(first), len(first)))
        shown[:] = connected_components(graph, directed=False)[1][number]

    name = f"{catalogue.path.name}-{digest(str(catalogue.path))}-photographs"
    key = digest([VERSION, catalogue.image_state()])
    return kept_array(name, key, (len(images.digests),), fill, dtype=np.int64)


def near_duplicates(catalogue: Catalogue, images: DecodedImages) -> np.ndarray:
    """(P, 2) int32, pairs i < j of images that show the same photograph in different files.

    Of equal files only the first is in a pair, unreadable images in none. Saving as JPEG at quality 60 or resizing to
    four fifths stays within both distances for 98 of 100 products on white; cropping and shifting do not.

    Args:
        catalogue: whose images are compared, at the size of a thumbnail: independent of the size that a model is
            trained at, and so is the split.
        images: the same images decoded at any size: which files are equal, which are unreadable.
    """
    pairs, colour = similar_outlines(catalogue, images)
    return pairs[colour <= COLOUR_DISTANCE]


def similar_outlines(catalogue: Catalogue, images: DecodedImages) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) int32, pairs i < j of images in different files with close hashes, and (P,) their colour distances."""
    pixels = open_images(catalogue, THUMBNAIL).pixels
    _, first = first_of_each_file(images.digests)
    readable = np.ones(len(images.digests), dtype=bool)
    readable[np.fromiter(images.errors, int)] = False
    first = first[readable[first]]
    pairs = first[close_hashes(perceptual_hashes(pixels)[first])]
    chunks = (chunk.T for chunk in in_pieces(pairs, COMPARED_AT_ONCE))
    return pairs, np.concatenate([colour_distance(pixels[a], pixels[b]) for a, b in chunks])


def first_of_each_file(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the number of each image's file content, and (F,) the first image of each content, ascending."""
    same = first_equal(digests)
    first = np.flatnonzero(same == np.arange(len(same))).astype(np.int32)
    return np.searchsorted(first, same).astype(np.int32), first


def perceptual_hashes(pixels: np.ndarray) -> np.ndarray:
    """(N,) uint64 of (N, 32, 32, 3) uint8: the signs of the coarsest cosine frequencies of the grey values (pHash)."""
    hashes = np.empty(len(pixels), dtype=np.uint64)
    for number, image in enumerate(tqdm(pixels, desc="looking for near-duplicate images", unit="image")):
        hashes[number] = np.packbits(imagehash.phash(Image.fromarray(image)).hash).view(">u8")[0]
    return hashes


def close_hashes(hashes: np.ndarray, distance: int = HASH_DISTANCE) -> np.ndarray:
    """(P, 2) pairs i < j whose hashes (N,) uint64 differ in at most `distance` bits, in ascending order."""
    order = np.argsort(hashes, kind="stable").astype(np.int32)
    ordered = hashes[order]
    start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    values, count = ordered[start], np.diff(start, append=len(ordered))
    del ordered
    again = np.flatnonzero(count > 1).repeat(2).reshape(-1, 2)
    a, b = np.concatenate([again, close_values(values, distance)]).T
    # all images of the one value with all images of the other
    product = count[a] * count[b]
    which = np.arange(product.sum()) - (np.cumsum(product) - product).repeat(product)
    first, second = np.divmod(which, count[b].repeat(product))
    first, second = order[start[a].repeat(product) + first], order[start[b].repeat(product) + second]
    pairs = np.minimum(first, second) * np.int64(len(hashes)) + np.maximum(first, second)
    # of two equal values each pair is there twice, and each image with itself
    pairs = pairs[(a != b).repeat(product) | (first < second)]
    return np.stack(np.divmod(np.sort(pairs), max(1, len(hashes))), axis=1)


def close_values(values: np.ndarray, distance: int) -> np.ndarray:
    """(P, 2) int64 pairs i < j of different uint64 numbers (N,) that differ in at most `distance` bits.

    Cut into distance + 3 bands of bits, two such numbers are equal in at least three: only those are compared that
    have three bands in common. For a distance of 4 these are 27 bits, which few of 10 million random numbers share.
    """
    bands = np.array_split(np.arange(64, dtype=np.uint64), distance + SHARED_BANDS)
    masks = [np.bitwise_or.reduce(np.uint64(1) << band) for band in bands]
    found = [np.empty(0, dtype=np.int64)]
    for some in combinations(masks, SHARED_BANDS):
        mask = np.bitwise_or.reduce(some)
        order = np.argsort(values & mask)
        ordered = values[order]
        # neighbours of neighbours in the sorted order, until no two of them share the bands
        first, step = np.flatnonzero((ordered[1:] ^ ordered[:-1]) & mask == 0), 1
        while len(first):
            near = first[np.bitwise_count(ordered[first] ^ ordered[first + step]) <= distance]
            a, b = order[near], order[near + step]
            found.append(np.minimum(a, b) * len(values) + np.maximum(a, b))
            step += 1
            first = first[: np.searchsorted(first, len(values) - step)]
            first = first[(ordered[first] ^ ordered[first + step]) & mask == 0]
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(1, len(values))), axis=1)


def colour_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,) mean absolute difference of (P, 32, 32, 3) uint8 images, at half their size, where one is not white."""
    a, b = halved(a), halved(b)
    product = np.minimum(a, b).min(3) < WHITISH  # (P, 16, 16)
    difference = np.abs(a - b).sum(3) * product
    return difference.sum((1, 2)) / (3 * product.sum((1, 2)).clip(1))


def halved(images: np.ndarray) -> np.ndarray:
    """(P, H, W, 3) uint8 -> (P, H / 2, W / 2, 3) int16, means of four."""
    wide = images.astype(np.int16)
    wide = wide[:, ::2] + wide[:, 1::2]
    return (wide[:, :, ::2] + wide[:, :, 1::2] + 2) // 4
