"""Train the Siamese network. The hyperparameters stand in this folder's README; any can be given as an option."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.errors import run_script
from common.hyperparameters import Count, CountOrZero, FeatureSettings, Fraction, Range, Rate, TrainingSettings
from common.options import train_command_line


@dataclass(frozen=True)
class Hyperparameters(TrainingSettings, FeatureSettings):
    """Names and types; values and explanations stand in the README."""

    finetune: bool
    hidden_dim: Count
    embedding_dim: Count
    dropout: Fraction
    margin: Annotated[float, Range(0, 2)]
    negatives: Literal["all", "hardest", "random"]
    negatives_warmup: CountOrZero
    norm_momentum: Fraction
    image_learning_rate: Rate
    flip: bool
    shift: Fraction


def main() -> None:
    options, settings = train_command_line("siamese", Hyperparameters)
    # imported only now, so that --help and a mistyped option answer at once
    from common.features import precompute_features
    from common.image_encoders import set_norm_momentum
    from common.session import prepare, prepare_model
    from common.training import fit
    from data.sample import make_sample
    from siamese.loss import contrastive
    from siamese.model import build_model

    session = prepare("siamese", options, settings, make_sample)
    model = build_model(settings, session.tokenizer, session.precision, session.resumed_from, session.train.captions)
    set_norm_momentum(model.image_encoder, settings.norm_momentum)
    model = prepare_model(model, session)
    session = precompute_features(session, model)

    def embed(batch):
        return model.encode_image(batch.images), model.encode_text(batch.tokens, batch.lengths)

    def losses(batch, image_emb, text_emb):
        negatives = "all" if batch.epoch < settings.negatives_warmup else settings.negatives
        return {"contrastive": contrastive(image_emb, text_emb, batch.positives, settings.margin, negatives)}

    # the best that one distance between all images and texts can do
    at_chance = {"contrastive": settings.margin**2 / 4}
    fit(model, embed, losses, session, at_chance, rates={model.image_encoder: settings.image_learning_rate})


if __name__ == "__main__":
    run_script(main)
