"""Every architecture of timm (https://github.com/huggingface/pytorch-image-models), where it is installed."""

import difflib
import importlib.util
from typing import Any

import torch
from torch import nn

OPTIONS = {"dropout": "drop_rate", "drop_path": "drop_path_rate"}
DEFAULT_MIN_SIZE = 32  # px; timm states a smallest size for few architectures only


def sizes(name: str) -> tuple[int, int]:
    """The smallest and the native size of an architecture.

    Raises:
        ValueError: timm is not installed, or has no architecture of that name.
    """
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"timm:{name} needs timm, which is not installed; pip install timm")
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean timm:{' or timm:'.join(close)}?" if close else "timm.list_models() lists all"
        raise ValueError(f"timm has no model {name!r}; {hint}")
    config = timm.get_pretrained_cfg(name)
    smallest = config.min_input_size[-1] if config.min_input_size else DEFAULT_MIN_SIZE
    return min(smallest, config.input_size[-1]), config.input_size[-1]


def check(name: str, *, image_size: int) -> None:
    """Raises a `ValueError` if the architecture cannot take images of that size, found by a forward pass of shapes."""
    with torch.device("meta"):
        try:
            build(name, num_classes=2, image_size=image_size).eval()(torch.empty(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ValueError(
                f"timm:{name} cannot take {image_size} px ({reason}); its own size is image_size={sizes(name)[1]}"
            ) from error


def build(name: str, *, num_classes: int, image_size: int, **options: Any) -> nn.Module:
    """Transformers, which are built for one image size, are told ours.

    Raises:
        ValueError: the architecture has no such option.
    """
    import timm

    arguments = {OPTIONS[option]: value for option, value in options.items()}
    if timm.get_pretrained_cfg(name).fixed_input_size:
        arguments["img_size"] = image_size
    try:
        network: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f"timm:{name} does not take all of {', '.join(options)}: {error}") from error
    return network
