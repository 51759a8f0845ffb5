"""What is searched among: the distinct images and captions of a split."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.captions import fold
from common.columns import plain_text
from common.splits import find_groups


def called(split: str) -> str:
    """What a split is called in a report."""
    return "the whole catalogue" if split == "all" else f"the {split} split"


@dataclass(frozen=True)
class Gallery:
    """What is searched among: the distinct images and the distinct captions of some rows.

    Attributes:
        images: (N,) indices of the decoded images.
        captions: M captions, one for each distinct folded caption.
        relevant: (2, R) positions (image, caption) that belong together: the caption is carried by a
            product that the image shows.
        products: the number of products P.
        product_images: (product id, position of an image) pairs.
        pairs: the rows themselves with all their columns, `image` and `caption` replaced by positions.
    """

    images: np.ndarray
    captions: list[str]
    relevant: Tensor
    products: int
    product_images: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def sizes(self) -> dict[str, int]:
        """How many images, texts (distinct captions) and products there are, and what links them."""
        return {
            "images": len(self.images),
            "texts": len(self.captions),
            "products": self.products,
            "groups": self.pairs["group"].nunique(),
            "pairs": len(self.pairs),
            "relevant": self.relevant.shape[1],
        }

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """The group of products that each query of either direction belongs to."""
        return {"image_to_text": self.image_group, "text_to_image": self.caption_group}

    @property
    def image_group(self) -> np.ndarray:
        """(N,) the group of products that each image belongs to."""
        return self.pairs.groupby("image")["group"].first().to_numpy()

    @property
    def caption_group(self) -> np.ndarray:
        """(M,) the group of products that each caption belongs to."""
        return self.pairs.groupby("caption")["group"].first().to_numpy()

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Gallery":
        rows = plain_text(rows)
        image, images = pd.factorize(rows["image"])
        caption, _ = pd.factorize(rows["caption"].map(fold))
        captions = rows["caption"].groupby(caption).first().tolist()
        pairs = rows.assign(image=image, caption=caption).reset_index(drop=True)
        if "group" in pairs:  # a caption may be shared by groups, where captions do not link
            number, _ = find_groups({"product": pairs["group"].to_numpy(), "caption": caption})
            pairs["group"] = pairs["group"].groupby(number).transform("min")
        product_images = pairs[["product", "image"]].drop_duplicates()
        product_captions = pairs[["product", "caption"]].drop_duplicates()
        relevant = product_images.merge(product_captions, on="product")[["image", "caption"]].drop_duplicates()
        return cls(
            images=images.to_numpy(),
            captions=captions,
            relevant=torch.from_numpy(relevant.to_numpy(dtype=np.int64).T.copy()),
            products=pairs["product"].nunique(),
            product_images=product_images,
            pairs=pairs,
        )
