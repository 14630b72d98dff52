"""Published spiking models as their authors wrote them: :func:`spikingjelly` lets their files be
imported, and their models be made, on every supported SpikingJelly and without a GPU.
"""

from neurocompile.compat.context import spikingjelly

__all__ = ["spikingjelly"]
