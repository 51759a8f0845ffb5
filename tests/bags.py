"""A gallery as a model sees it that counts words: for the report's probes of captions."""

from types import SimpleNamespace

import pandas as pd
import torch
from torch import nn

from common.batches import Texts
from common.captions import Vocabulary
from common.embedding import Embedded, embed_texts
from common.evaluation import both_ranks
from common.gallery import Gallery

CPU = torch.device("cpu")


class Bag(nn.Module):
    """text_emb (B, V): how often a caption holds each word of the vocabulary, but for the words it is blind to."""

    def __init__(self, tokenizer: Vocabulary, blind_to: set[str]) -> None:
        super().__init__()
        self.seen = torch.tensor([0, 0] + [word not in blind_to for word in tokenizer.known], dtype=torch.float32)

    def encode_text(self, tokens, lengths):
        return nn.functional.one_hot(tokens, len(self.seen)).sum(1) * self.seen


def bag_of_words(
    rows: list[dict[str, str]], blind_to: set[str] = frozenset(), known: list[str] | None = None
) -> Embedded:
    """A product a row; its image shows exactly the words of the column `looks`, or of its caption.

    A row has a caption and any attributes; equal values of "product" or "photo" are one product or one image.
    """
    frame = pd.DataFrame(rows)
    defaults = {"product": frame.index.astype(str), "photo": frame.index.astype(str), "looks": frame["caption"]}
    frame = frame.assign(**{name: value for name, value in defaults.items() if name not in frame})
    attributes = [name for name in frame if name not in ("product", "photo", "looks", "caption")]
    data = frame.drop(columns=["photo", "looks"]).assign(image=pd.factorize(frame["photo"])[0], group=frame["product"])
    gallery = Gallery.of(data)
    seen = frame.drop_duplicates("photo")["looks"].tolist()
    tokenizer = Vocabulary.from_captions([*frame["caption"], *seen], 1, 40) if known is None else Vocabulary(known, 40)
    model = Bag(tokenizer, blind_to)
    image_emb, text_emb = (embed_texts(model, Texts(*tokenizer(texts)), CPU) for texts in (seen, gallery.captions))
    catalogue = SimpleNamespace(rows=data.drop(columns="group"), attributes=attributes)
    ranks = both_ranks(image_emb, text_emb, gallery)
    return Embedded(
        model, tokenizer, CPU, SimpleNamespace(catalogue=catalogue), "test", gallery, image_emb, text_emb, ranks
    )
