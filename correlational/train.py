"""Train the Correlational network. The hyperparameters stand in this folder's README; any can be given as an option."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.errors import run_script
from common.hyperparameters import Count, FeatureSettings, Rate, TrainingSettings
from common.options import train_command_line


@dataclass(frozen=True)
class Hyperparameters(TrainingSettings, FeatureSettings):
    """Names and types; values and explanations stand in the README."""

    network: Literal["deep", "shallow"]
    hidden_dims: tuple[Count, Count]
    code_dim: Count
    correlation_weight: Rate


def main() -> None:
    options, settings = train_command_line("correlational", Hyperparameters)
    # imported only now, so that --help and a mistyped option answer at once
    from common.features import precompute_features
    from common.session import prepare, prepare_model
    from common.training import fit
    from correlational.loss import correlation, reconstruction
    from correlational.model import build_model
    from data.sample import make_sample

    session = prepare("correlational", options, settings, make_sample)
    model = build_model(settings, session.tokenizer, session.precision, session.resumed_from, session.train.captions)
    model = prepare_model(model, session)
    session = precompute_features(session, model)
    network = model.network
    reduction = "sum" if settings.network == "shallow" else "mean"

    def embed(batch):
        image, text = model.image_view(batch.images), model.text_view(batch.tokens, batch.lengths)
        return image, text, network.encode(image, text), network.encode(image=image), network.encode(text=text)

    def losses(batch, image, text, both_code, image_code, text_code):
        codes = {"both": both_code, "image": image_code, "text": text_code}
        terms = {
            f"reconstruction_{source}": reconstruction(network.decode(code), (image, text), reduction)
            for source, code in codes.items()
        }
        terms["correlation"] = -settings.correlation_weight * correlation(image_code, text_code)
        return terms

    # the mean of standardised features in place of each, and codes that have nothing in common
    nothing = 1.0 if reduction == "mean" else (model.image_encoder.dim + model.text_encoder.dim) / 2
    at_chance = {f"reconstruction_{source}": nothing for source in ("both", "image", "text")} | {"correlation": 0.0}
    fit(model, embed, losses, session, at_chance, rates={})


if __name__ == "__main__":
    run_script(main)
