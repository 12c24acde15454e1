"""`heart-scorer version`: the versions of the product and of the model."""

from __future__ import annotations

from cli.home import MODEL_DIR, pinned
from cli.output import say


def version() -> None:
    """Print the versions of the product and of the model.

    \b
    Example:
      heart-scorer version
    """
    from shared import __version__
    from shared.records.artifact import read_manifest
    from shared.records.errors import StartupError

    print(f"heart-scorer {__version__}")
    try:
        manifest, sha256 = read_manifest(MODEL_DIR, pinned())
    except StartupError as error:
        say(str(error))
    else:
        print(f"model {manifest.name} {manifest.version} {sha256}")
