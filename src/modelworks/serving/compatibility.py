"""Whether those who ask one package can go on as they are when another answers."""

from __future__ import annotations

from modelworks.core.signature import Signature, Tensor


def broken_for_clients(before: Signature, after: Signature) -> str:
    """Return what clients of one signature would run into at another; empty if nothing.

    They send the same tensors (or rows of the same columns) and read the outputs they know: further outputs and other
    numbers of classes are no harm.
    """
    old, new = ({tensor.name: tensor for tensor in item.inputs} for item in (before, after))
    if not old:
        # The package that answers cannot be read: nobody is answered by it.
        return ""
    for name, tensor in old.items():
        if name in new and (found := _input_change(tensor, new[name])):
            return f"input '{name}' {found}"
    if set(old) != set(new):
        return f"it takes {', '.join(new)} instead of {', '.join(old)}"
    given = {tensor.name: tensor for tensor in after.outputs}
    for tensor in before.outputs:
        if tensor.name not in given:
            return f"it has no output '{tensor.name}'"
        if tensor.datatype != given[tensor.name].datatype:
            return f"output '{tensor.name}' is {given[tensor.name].datatype} instead of {tensor.datatype}"
    return ""


def _input_change(old: Tensor, new: Tensor) -> str:
    gone, come = set(old.columns) - set(new.columns), set(new.columns) - set(old.columns)
    if gone or come:
        parts = (
            f"{what} {', '.join(sorted(columns))[:80]}"
            for what, columns in (("has no column", gone), ("has a new column", come))
            if columns
        )
        return " and ".join(parts)
    if old.columns != new.columns:
        return "has its columns in another order"
    if (old.datatype, old.shape) != (new.datatype, new.shape):
        return f"is {new.datatype} {list(new.shape)} instead of {old.datatype} {list(old.shape)}"
    return ""
