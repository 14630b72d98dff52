"""``neurocompile verify``: an artifact against its own content."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, command


@command
def verify(
    artifact: Artifact,
    trusted: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pub", help="It must be signed by this public key's owner."),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Check an artifact from its own content.

    Hashes are compared, the resources of every core and the traffic counted again, and recorded
    samples run again. Rates, calibration and import agreement are what its maker says.
    """
    import msgspec

    from neurocompile.artifact.verify import verify as check

    found = check(artifact, trusted)
    lines = [
        f"{artifact}: {found.model} verifies",
        f"  {found.members:,} members have the recorded SHA-256",
        f"  {found.cores:,} cores use what the mapping records, within the target's limits",
        f"  {found.samples:,} recorded samples give the recorded spikes of {found.populations:,} populations",
        f"  {found.cycles:,} cycle-accurate steps, through delays and resets, give the same spikes",
    ]
    if found.images:
        lines.append(
            f"  {found.images:,} core images are those of circuit and mapping, table by table"
        )
    lines.append(f"  {_target_line(found.target, found.unlike_shipped)}")
    if found.signed_by is None:
        lines.append("  not signed")
    else:
        word = "is trusted" if found.trusted else "was not asked for (--trusted KEY.pub)"
        lines.append(f"  signed by key {found.signed_by[:16]}, which {word}")
    lines.append("  not proven: rates, calibration and import agreement are its maker's word")
    return Output(
        {"verified": True, "artifact": str(artifact), **msgspec.to_builtins(found)}, lines
    )


def _target_line(name: str, unlike: tuple[str, ...] | None) -> str:
    if unlike is None:
        return f"its target '{name}' is none that is shipped: its limits are its maker's word"
    if unlike:
        more = f" and {len(unlike) - 3:,} more" if len(unlike) > 3 else ""
        return f"its target is NOT the shipped '{name}': other {', '.join(unlike[:3])}{more}"
    return f"its target is the shipped '{name}'"
