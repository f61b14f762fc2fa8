"""Reading a ``config.json`` strictly: every field typed, every error with its place.

A config says far more than the shape of a model, so fields that no family reads are ignored, with
one exception: a field of ``STRUCTURAL`` that is set although the family does not know it would
change the model, and is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsim.errors import InputError
from archsim.inputs import read_text

#: Largest extent, and largest number of layers, a config may ask for.
MOST, MOST_LAYERS = 1 << 32, 10_000

#: Activation functions by their names in configs.
ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_python": "gelu",
    "relu": "relu", "quick_gelu": "quick_gelu", "relu2": "relu",
}  # fmt: skip

#: Fields that change what a model is made of: unread, they must be absent, null, false or zero.
STRUCTURAL = (
    "num_local_experts", "num_experts", "n_routed_experts", "n_shared_experts",
    "num_experts_per_tok", "num_experts_per_token", "moe_intermediate_size",
    "shared_expert_intermediate_size", "first_k_dense_replace", "kv_lora_rank", "q_lora_rank",
    "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "state_size", "ssm_state_size",
    "conv_kernel", "time_step_rank", "n_groups", "attn_type_list", "layer_types",
    "attention_bias", "mlp_bias", "use_sliding_window", "decoder_sparse_step",
    "cross_attention_hidden_size", "add_cross_attention", "is_encoder_decoder",
    "word_embed_proj_dim", "qk_layernorm", "use_qk_norm", "num_key_value_heads", "multi_query",
)  # fmt: skip


class Fields:
    """The fields of a config; remembers which were read.

    Args:
        data: The config.
        source: Name of the file, for errors.
        prefix: Path of the config inside the file.
    """

    def __init__(self, data: Mapping[str, Any], source: object, prefix: str = "") -> None:
        self.data, self.source, self.prefix = data, source, prefix
        self.read: set[str] = set()

    def error(self, name: str, message: str, expected: str | None = None) -> InputError:
        """An error about a field, with what was found there."""
        return InputError(
            message,
            source=self.source,
            field=self.prefix + name,
            found=self.data.get(name),
            expected=expected,
        )

    def has(self, name: str) -> bool:
        """Whether a field is given and not null."""
        self.read.add(name)
        return self.data.get(name) is not None

    def layers(self, *names: str) -> int:
        """The number of layers.

        Raises:
            InputError: It is missing or no such number.
        """
        count = self.number(*names)
        if count > MOST_LAYERS:
            given = next(name for name in names if self.data.get(name) is not None)
            raise self.error(given, "too many layers", f"at most {MOST_LAYERS}")
        return count

    def number(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number under the first of some names that is given.

        Raises:
            InputError: None is given and there is no default, or the value is no such number.
        """
        self.read.update(names)
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
                raise self.error(name, "not a count", f"a whole number from {least} to {MOST}")
            return value
        if default is None:
            raise InputError(
                "a field is missing",
                source=self.source,
                field=self.prefix + names[0],
                expected=f"a whole number of at least {least}",
            )
        return default

    def optional(self, name: str, least: int = 1) -> int | None:
        """A whole number, or None where it is absent or null."""
        return self.number(name, least=least) if self.has(name) else None

    def flag(self, name: str, default: bool | None = None) -> bool:
        """A truth value.

        Raises:
            InputError: It is missing and has no default, or is something else.
        """
        self.read.add(name)
        value = self.data.get(name, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, "not a truth value", "true or false")
        return value

    def fixed(self, name: str, *allowed: Any) -> None:
        """Refuse a field that is given with another value than those known here.

        Raises:
            InputError: It has another value.
        """
        self.read.add(name)
        if self.data.get(name) is not None and self.data[name] not in allowed:
            raise self.error(
                name, "this is not supported", "one of " + ", ".join(map(str, allowed))
            )

    def activation(self, *names: str, default: str | None = None) -> str:
        """An activation function.

        Raises:
            InputError: It is missing or unknown.
        """
        self.read.update(names)
        for name in names:
            value = self.data.get(name)
            if value is None:
                continue
            if not isinstance(value, str) or value not in ACTIVATIONS:
                raise self.error(name, "unknown activation", "one of " + ", ".join(ACTIVATIONS))
            return ACTIVATIONS[value]
        if default is None:
            raise self.error(names[0], "a field is missing", "one of " + ", ".join(ACTIVATIONS))
        return default

    def choices(self, name: str, allowed: Sequence[Any], count: int) -> list[Any]:
        """A list with one entry a layer.

        Raises:
            InputError: It is no such list.
        """
        self.read.add(name)
        value = self.data.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise self.error(name, "not a list with an entry for each layer", f"{count} entries")
        for entry in value:
            if entry not in allowed or isinstance(entry, bool):
                raise self.error(name, f"unknown entry {entry!r}", f"of {list(allowed)}")
        return value

    def divides(self, name: str, part: int, whole_name: str, whole: int) -> int:
        """Check that a count divides another; returns the quotient.

        Raises:
            InputError: It does not.
        """
        if part < 1 or whole % part:
            raise InputError(
                f"does not divide {whole_name}",
                source=self.source,
                field=self.prefix + name,
                found=part,
                expected=f"a divisor of {whole}",
            )
        return whole // part

    def finish(self) -> None:
        """Refuse structural fields the family did not read.

        Raises:
            InputError: Names the first.
        """
        for name in STRUCTURAL:
            if name not in self.read and self.data.get(name) not in (None, False, 0, [], ""):
                raise self.error(
                    name, f"a model of type {self.data.get('model_type')!r} has no such field"
                )


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a ``config.json``.

    Raises:
        InputError: The file cannot be read or is no JSON object.
    """
    text = read_text(path)
    try:
        data = json.loads(text, object_pairs_hook=_unique(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", source=path) from None
    if not isinstance(data, dict):
        raise InputError("the document must be an object", source=path, found=data)
    return data


def _unique(path: object) -> Any:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in pairs:
            if key in data:
                raise InputError("field given twice", source=path, field=key)
            data[key] = value
        return data

    return collect
