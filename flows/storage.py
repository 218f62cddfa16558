"""Storage options by the name of a Prefect block, so that credentials are no parameters of a flow run."""

from __future__ import annotations

from typing import Any, cast

from h5z.errors import PlanError, one_line


def storage_options(block: str | None) -> dict[str, Any] | None:
    """The storage options that a Prefect Secret block holds; they stay out of parameters, logs and reports.

    Raises
    ------
    PlanError
        If there is no such block, or it holds no JSON object.
    """
    if block is None:
        return None
    from prefect.blocks.system import Secret

    try:
        found = cast("Secret[Any]", Secret.load(block)).get()
    except ValueError as error:
        raise PlanError(f"storage: expected a Secret block by the name {block!r} ({one_line(error)})") from None
    if not isinstance(found, dict):
        raise PlanError(f"storage: expected the Secret block {block!r} to hold a JSON object of storage options")
    return found
