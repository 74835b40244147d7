"""The receiver of a reflector, in the place of a store."""

from __future__ import annotations

import json

from msgspec import Raw


class RecordingReceiver:
    """Holds what a store would hold: ``state`` after each commit, ``log`` of the commits."""

    def __init__(self) -> None:
        self.state: set[str] = set()
        self.log: list[tuple[str, bool]] = []
        self._staged: dict[str, bool] = {}

    def set(self, raw: Raw) -> str:
        return self._stage(raw, True)

    def delete(self, raw: Raw) -> str:
        return self._stage(raw, False)

    def _stage(self, raw: Raw, there: bool) -> str:
        metadata = json.loads(bytes(raw))["metadata"]
        self._staged[metadata["name"]] = there
        return str(metadata["resourceVersion"])

    def discard(self) -> None:
        self._staged.clear()

    def commit(self, *, replace: bool) -> None:
        if replace:
            self.state = set()
        for name, there in self._staged.items():
            (self.state.add if there else self.state.discard)(name)
        self.log.append((" ".join(self._staged), replace))
        self._staged.clear()
