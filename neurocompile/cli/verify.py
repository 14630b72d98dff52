"""``neurocompile verify``: an artifact against its own content."""

from __future__ import annotations

from neurocompile.cli.common import Artifact, Json, Output, command


@command
def verify(artifact: Artifact, json_output: Json = False) -> Output:
    """Check an artifact from its own content.

    Hashes are compared, the resources of every core counted again, and recorded samples run again.
    """
    import msgspec

    from neurocompile.artifact.verify import verify as check

    found = check(artifact)
    lines = [
        f"{artifact}: {found.model} verifies",
        f"  {found.members:,} members have the recorded SHA-256",
        f"  {found.cores:,} cores use what the mapping records, within the target's limits",
        f"  {found.samples:,} recorded samples give the recorded spikes of {found.populations:,} populations",
        f"  {found.cycles:,} cycle-accurate steps, through delays and resets, give the same spikes",
    ]
    return Output(
        {"verified": True, "artifact": str(artifact), **msgspec.to_builtins(found)}, lines
    )
