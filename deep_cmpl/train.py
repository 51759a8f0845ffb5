"""Train Deep CMPL. The hyperparameters stand in this folder's README; any can be given as an option."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.errors import run_script
from common.hyperparameters import (
    Count,
    CountOrZero,
    Fraction,
    ImageEncoderName,
    ImageSize,
    Rate,
    TextEncoderName,
    TrainingSettings,
)
from common.options import train_command_line


@dataclass(frozen=True)
class Hyperparameters(TrainingSettings):
    """Names and types; values and explanations stand in the README."""

    image_encoder: ImageEncoderName
    image_weights: str
    freeze_image_encoder: bool
    image_size: ImageSize
    text_encoder: TextEncoderName
    text_weights: str
    freeze_text_encoder: bool
    word_dim: Count
    lstm_dim: Count
    dropout: Fraction
    min_word_count: Count
    max_words: Count
    embedding_dim: Count
    divergence: Literal["forward", "reverse", "sum"]
    scale: Literal["paper", "learned"]
    cmpc_column: str
    frozen_image_layers: CountOrZero
    norm_momentum: Fraction
    image_learning_rate: Rate
    text_learning_rate: Rate
    flip: bool
    shift: Fraction


def main() -> None:
    options, settings = train_command_line("deep_cmpl", Hyperparameters)
    # imported only now, so that --help and a mistyped option answer at once
    import torch

    from common.image_encoders import freeze_first_layers, set_norm_momentum
    from common.session import prepare, prepare_model
    from common.training import fit
    from data.sample import make_sample
    from deep_cmpl.loss import cmpc, cmpm
    from deep_cmpl.model import build_model

    session = prepare("deep_cmpl", options, settings, make_sample, label_column=settings.cmpc_column)
    classes = len(session.train.classes)
    model = build_model(settings, session.tokenizer, session.precision, session.resumed_from, classes)
    freeze_first_layers(model.image_encoder, settings.frozen_image_layers)
    set_norm_momentum(model.image_encoder, settings.norm_momentum)
    model = prepare_model(model, session)

    def embed(batch):
        return model.encode_image(batch.images), model.encode_text(batch.tokens, batch.lengths)

    def losses(batch, image_emb, text_emb):
        terms = {"cmpm": cmpm(image_emb, text_emb, batch.positives, settings.divergence, model.scale())}
        if classes:
            terms["cmpc"] = cmpc(image_emb, text_emb, batch.labels, model.class_weight)
        return terms

    # embeddings that know nothing are equally near to everything
    nothing = torch.zeros(session.batch_size, settings.embedding_dim)
    at_chance = {"cmpm": cmpm(nothing, nothing, torch.eye(session.batch_size, dtype=torch.bool), settings.divergence)}
    if classes:
        at_chance["cmpc"] = torch.tensor(2 * math.log(classes))
    rates = {
        model.image_encoder: settings.image_learning_rate,
        model.text_encoder: settings.text_learning_rate,
    }
    fit(model, embed, losses, session, at_chance, rates)


if __name__ == "__main__":
    run_script(main)
