"""The two towers of a model as ONNX files, with any number of images, captions and words."""

import copy
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from common.captions import Tokenizer, first_line
from common.errors import InputError
from common.text_encoders import BiLSTM
from search.onnx_encoder import IMAGE, TEXT

EXAMPLES = ["red", "navy striped kurta for women", "a blue shirt"]


class ImageTower(nn.Module):
    """(B, 3, H, W) uint8 -> unit vectors (B, D)"""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return normalize(self.model.encode_image(pixels), dim=1)


class TextTower(nn.Module):
    """(B, L) int64 padded with 0, (B,) int64 -> unit vectors (B, D)"""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.copy(model)
        self.model._modules = dict(model._modules)
        if isinstance(model.text_encoder, BiLSTM):
            self.model.text_encoder = MaskedBiLSTM(model.text_encoder)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return normalize(self.model.encode_text(tokens, lengths), dim=1)


class MaskedBiLSTM(nn.Module):
    """`BiLSTM` without packed sequences, which ONNX does not have.

    The backward direction reads each caption turned round within its own length, so that it starts at the last word
    as it does when packed. Where its states stand does not matter to the maximum over time.
    """

    def __init__(self, packed: BiLSTM) -> None:
        super().__init__()
        self.dim, self.embedding = packed.dim, packed.embedding
        sizes = packed.lstm.input_size, packed.lstm.hidden_size
        self.ahead, self.back = (nn.LSTM(*sizes, batch_first=True) for _ in range(2))
        weights = packed.lstm.state_dict()
        self.back.load_state_dict(
            {name.removesuffix("_reverse"): value for name, value in weights.items() if name.endswith("_reverse")}
        )
        self.ahead.load_state_dict({name: value for name, value in weights.items() if not name.endswith("_reverse")})

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) int64 padded with 0, (B,) int64 -> (B, 2 * hidden_dim)"""
        vectors = self.embedding(tokens)  # (B, L, word_dim)
        place = torch.arange(tokens.shape[1], device=tokens.device)
        last = lengths[:, None] - 1
        inside = place <= last  # (B, L)
        turned = torch.where(inside, last - place, place)[..., None].expand_as(vectors)
        states = torch.cat([self.ahead(vectors)[0], self.back(vectors.gather(1, turned))[0]], dim=2)
        return states.masked_fill(~inside[..., None], float("-inf")).amax(1)


def write_towers(model: nn.Module, tokenizer: Tokenizer, image_size: tuple[int, int], folder: Path) -> None:
    """Write image.onnx (`pixels` -> `image_emb`) and text.onnx (`tokens`, `lengths` -> `text_emb`).

    Args:
        model: in evaluation mode, on the CPU.
        tokenizer: of the model.
        image_size: (height, width) in pixels.
        folder: to write to.

    Raises:
        InputError: an encoder cannot be exported.
    """
    tokens, lengths = (torch.from_numpy(array).long() for array in tokenizer(EXAMPLES))
    batch, words = torch.export.Dim("batch"), torch.export.Dim("words")
    pixels = torch.zeros(3, 3, *image_size, dtype=torch.uint8)
    export(ImageTower(model), (pixels,), ["pixels"], ["image_emb"], {"pixels": {0: batch}}, folder / IMAGE)
    shapes = {"tokens": {0: batch, 1: words}, "lengths": {0: batch}}
    export(TextTower(model), (tokens, lengths), ["tokens", "lengths"], ["text_emb"], shapes, folder / TEXT)


def export(
    tower: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], shapes: dict, file: Path
) -> None:
    print(f"exporting {file.name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                tower.eval(), example, dynamo=True, input_names=inputs, output_names=outputs, dynamic_shapes=shapes,
                verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"{file.name}: this run's encoder cannot be exported ({first_line(error)})") from None
        for given in program.model.graph.inputs:
            if any(isinstance(given.shape[axis], int) for axis in shapes[given.name]):
                raise InputError(
                    f"{file.name}: torch {torch.__version__} exports it for '{given.name}' of one size alone, as older "
                    "ones do an LSTM; 2.14 does for any: pip install -U torch torchvision"
                )
        program.save(file)
