"""Models for the browser: a picture in, the chance of every class out, as ONNX."""

from __future__ import annotations

import logging

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from ubt_utils.clip import models

PICTURE, CHANCE = "picture", "chance"  # the names of what goes in and of what comes out
HALF = "_half"  # ends the name of a weight as it is stored


class Reader(nn.Module):
    """One picture (1, 3, H, W) in [0, 1] → (1, C) the chance of every class, as `measure.answers` has it.

    head: (C, D) unit class weights. Of the text tower nothing but these is kept.
    """

    def __init__(self, model: nn.Module, head: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("logits", head * model.logit_scale.detach().exp().cpu())

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        z = models.unit(self.model.encode_image(models.normalize(self.model, picture)))
        return (z @ self.logits.T).softmax(-1)


def onnx_of(reader: Reader, size: int) -> onnx.ModelProto:
    """The reader of pictures of `size` × `size` pixels, on the CPU, as ONNX in single precision."""
    log = logging.getLogger("onnxscript")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every node that it cannot fold
    try:
        given = (torch.zeros(1, 3, size, size),)
        names = {"input_names": [PICTURE], "output_names": [CHANCE]}
        made = torch.onnx.export(reader.cpu().eval(), given, dynamo=True, verbose=False, **names)
    finally:
        log.setLevel(level)
    return made.model_proto


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with its weights stored in half precision, and computed with in single precision."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    for weight in small.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            name, values = weight.name, numpy_helper.to_array(weight).astype("float16")
            weight.CopyFrom(numpy_helper.from_array(values, name + HALF))
            small.graph.node.insert(
                0, helper.make_node("Cast", [name + HALF], [name], to=onnx.TensorProto.FLOAT)
            )
    return small
