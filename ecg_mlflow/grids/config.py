"""One configuration: a value, with its alias, for every option."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal, overload

from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.kv import KV, snapshot


class ConfigAlias(Mapping[str, object]):
    """An immutable mapping from option names to values, with the alias of each value.

    Two configurations are equal if their values are equal; aliases and order do not count.

    Parameters
    ----------
    options : Mapping
        Option name to :class:`KV`, or to a plain value, which gets its default alias.

    Raises
    ------
    GridError
        Same as :class:`KV`.
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self._kvs = {
            name: value if isinstance(value, KV) else KV(value) for name, value in options.items()
        }

    def config(self) -> dict[str, object]:
        """Return the values by option, in the grid's order."""
        return {name: snapshot(kv.value) for name, kv in self._kvs.items()}

    @overload
    def alias(self, as_string: Literal[False] = False) -> dict[str, str]: ...

    @overload
    def alias(self, as_string: Literal[True]) -> str: ...

    def alias(self, as_string: bool = False) -> dict[str, str] | str:
        """Return the aliases by option.

        Parameters
        ----------
        as_string : bool
            Whether to join them, sorted by option: ``'blocks_[2, 2]-model_ResNet18'``.

        Returns
        -------
        dict or str
        """
        aliases = {name: kv.alias for name, kv in self._kvs.items()}
        if as_string:
            return "-".join(f"{name}_{alias}" for name, alias in sorted(aliases.items()))
        return aliases

    @cached_property
    def digest(self) -> str:
        """Identity of the configuration by its values."""
        return digest({name: kv.digest for name, kv in self._kvs.items()})

    def __getitem__(self, name: str) -> object:
        return snapshot(self._kvs[name].value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kvs)

    def __len__(self) -> int:
        return len(self._kvs)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, ConfigAlias) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ConfigAlias({self.alias()})"
