"""What a caller holds of a step call: its inputs before it runs, its value and files after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import ExecutionError, ModelworksError, UsageError, close_matches
from modelworks.core.job import Resources, Usage
from modelworks.workflow.fingerprint import Fingerprint, Fingerprints
from modelworks.workflow.step import Step

if TYPE_CHECKING:
    from modelworks.storage.store import Store

ENDS = frozenset({"done", "failed", "skipped", "cancelled"})


@dataclass(frozen=True)
class Artifact:
    """Something in the store, as an input of a step.

    Attributes:
        digest: SHA-256 of the blob or of the tree's listing.
        tree: It is a folder.
    """

    digest: str
    tree: bool = False


@dataclass(frozen=True)
class Output:
    """A file of another call, or its whole output folder (``name`` is ``None``), as an input of a step."""

    handle: Handle
    name: str | None


Input = Path | Artifact | Output


class Handle:
    """A call of a step by one label.

    Attributes:
        step: The step.
        label: Task it belongs to.
        params: Plain parameters.
        priority: Larger runs earlier.
        resources: Limits of this call.
        status: ``waiting`` (for inputs), ``ready``, ``running``, then one of ``done``, ``failed``, ``skipped`` (an
            input failed) or ``cancelled``.
        key: Content key, once the inputs are known.
        value: What the step returned, once ``done``.
        outputs: File name -> ``(digest, size)``, once ``done``.
        tree: Digest of the tree of all output files, once ``done``.
        error: Why there is no value, for the other ends.
        memoised: The result was there already, or another call of this run made it.
        usage: What the attempts made for this call used.
    """

    def __init__(
        self,
        step: Step,
        inputs: Mapping[str, Input],
        params: dict[str, Any],
        label: str,
        store: Store,
        *,
        priority: float = 0.0,
        resources: Resources | None = None,
    ) -> None:
        self.step = step
        self.inputs = dict(inputs)
        self.params = params
        self.label = label
        self.priority = priority
        self.resources = resources or step.resources
        self.status = "waiting"
        self.key = ""
        self.value: Any = None
        self.outputs: dict[str, tuple[str, int]] = {}
        self.tree = ""
        self.error: ModelworksError | None = None
        self.memoised = False
        self.usage = Usage()
        self._store = store

    def __repr__(self) -> str:
        return f"<{self.step.name} {self.label!r} {self.status}>"

    @property
    def ended(self) -> bool:
        """Say whether the call has ended in any way."""
        return self.status in ENDS

    @property
    def ok(self) -> bool:
        """Say whether there is a value."""
        return self.status == "done"

    def output(self, name: str) -> Output:
        """Return one output file, to be an input of another call.

        Raises:
            UsageError: The step declares its outputs and this is none of them.
        """
        if self.step.outputs and name not in self.step.outputs and name not in self.outputs:
            raise UsageError(
                f"Step '{self.step.name}' writes no '{name}'.{close_matches(name, self.step.outputs)}",
                code="MW1364",
            )
        return Output(self, name)

    def all_outputs(self) -> Output:
        """Return the whole output folder, to be an input of another call."""
        return Output(self, None)

    def result(self) -> Any:
        """Return the value.

        Raises:
            ModelworksError: The call failed, was skipped or cancelled.
            UsageError: It has not ended yet.
        """
        if self.error is not None:
            raise self.error
        if not self.ok:
            raise UsageError(f"The call of '{self.step.name}' has not ended yet.", code="MW1365")
        return self.value

    def path(self, name: str) -> Path:
        """Return a read-only output file to read in place.

        Raises:
            UsageError: There is no such file.
        """
        self.result()
        if name not in self.outputs:
            raise UsageError(
                f"Step '{self.step.name}' wrote no '{name}'.{close_matches(name, self.outputs)}",
                code="MW1366",
            )
        return self._store.path(self.outputs[name][0])

    def folder(self) -> Path:
        """Return a read-only folder with all output files under their names."""
        self.result()
        return self._store.tree_folder(self.tree)


def identify(
    inputs: Mapping[str, Input], fingerprints: Fingerprints
) -> tuple[dict[str, str], list[Fingerprint]]:
    """Return the digest of every input, and the fingerprints of those outside the store.

    Raises:
        DataError: A path is not there.
        UsageError: A call wrote no file of that name.
    """
    digests: dict[str, str] = {}
    outside: list[Fingerprint] = []
    for name, source in inputs.items():
        if isinstance(source, Artifact):
            digests[name] = source.digest
        elif isinstance(source, Path):
            outside.append(fingerprints.of(source))
            digests[name] = outside[-1].digest
        elif source.name is None:
            digests[name] = source.handle.tree
        else:
            source.handle.path(source.name)
            digests[name] = source.handle.outputs[source.name][0]
    return digests, outside


def locate(source: Input, store: Store) -> Path:
    """Return the read-only file or folder of an input.

    Raises:
        NotFound: It is not in the store.
        TrustError: It is damaged.
    """
    if isinstance(source, Artifact):
        return store.tree_folder(source.digest) if source.tree else store.path(source.digest)
    if isinstance(source, Path):
        return source.absolute()
    return source.handle.folder() if source.name is None else source.handle.path(source.name)


def skipped(handle: Handle, cause: Handle) -> ExecutionError:
    """Return the error of a call whose input failed; it passes on what to do about it."""
    root = cause.error
    text = root.message if root else "it did not end well"
    return ExecutionError(
        f"Step '{handle.step.name}' was skipped because step '{cause.step.name}' ended '{cause.status}': {text}",
        code="MW5401",
        hint=root.hint if root else None,
    )
