"""What search/export.py wrote as two functions, served by onnxruntime."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from common.errors import InputError
from common.text_encoders import load_tokenizer
from search.encoder import Picture, decoded

EXPORT, IMAGE, TEXT = "export.json", "image.onnx", "text.onnx"


class OnnxEncoder:
    """The two towers of an exported run; used as `encoder.Encoder` is.

    Args:
        folder: that search/export.py wrote.

    Attributes:
        identity: of the run that was exported.

    Raises:
        InputError: there is no export, or it is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.device = folder, "onnxruntime"
        try:
            export = json.loads((folder / EXPORT).read_text(encoding="utf-8"))
            self.identity: dict[str, Any] = export["identity"]
            self.image_size: tuple[int, int] = tuple(export["preprocessing"]["size"])
            self.tokenizer = load_tokenizer(SimpleNamespace(**export["tokenizer"]), folder)
            self.image, self.text = (session(folder / name) for name in (IMAGE, TEXT))
        except FileNotFoundError as error:
            raise InputError(f"{error.filename}: missing; write an export with search/export.py") from None
        except InputError:
            raise
        except Exception as error:  # onnxruntime has an error of its own for each way to be broken
            first = str(error).strip().split("\n")[0]
            raise InputError(f"{folder}: a broken export, it cannot be read ({first}); write it again") from None

    def texts(self, captions: list[str]) -> np.ndarray:
        """(M, D) float32 unit vectors of captions."""
        tokens, lengths = self.tokenizer(captions)
        return self.text.run(None, {"tokens": tokens.astype(np.int64), "lengths": lengths.astype(np.int64)})[0]

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """(N, D) float32 unit vectors of decoded images (N, H, W, 3) uint8."""
        return self.image.run(None, {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0]

    def picture(self, picture: Picture) -> np.ndarray:
        """(D,) float32 unit vector of one picture.

        Raises:
            InputError: it cannot be decoded.
        """
        return self.pixels(decoded(picture, self.image_size)[None])[0]


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # its threads would go on turning after a query is encoded, and take the cores from the search that follows
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
